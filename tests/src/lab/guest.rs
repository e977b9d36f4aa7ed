//! A guest as its neighbours and the host's kernel see it. The image is that of `tests/lab/guest/init`: see there for what it serves.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::command::run;
use super::failure::{Failure, Outcome, ensure};
use super::kernel::{self, Process};
use super::wait::eventually;

const WHO: u16 = 13;
const SHELL: u16 = 2000;
const SINK: u16 = 5001;
const ZEROS: u16 = 5002;

/// A guest, by its name and its address.
pub struct Guest {
    /// Name.
    pub name: String,
    /// The IPv4 address it is to have.
    pub address: String,
}

/// What a guest says of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Who {
    /// Its host name.
    pub name: String,
    /// The kernel's random name for this boot.
    pub boot: String,
    /// Seconds since this boot.
    pub uptime: f64,
    /// All lines.
    pub text: String,
}

impl Guest {
    pub(super) fn new(name: &str, address: &str) -> Self {
        Self {
            name: name.into(),
            address: address.into(),
        }
    }

    fn connect(&self, port: u16) -> Outcome<TcpStream> {
        let address = SocketAddr::new(self.address.parse::<Ipv4Addr>()?.into(), port);
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(3)).map_err(|e| {
            Failure::from(e).during(format!(
                "{} does not take a connection to port {port}",
                self.name
            ))
        })?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.set_write_timeout(Some(Duration::from_secs(20)))?;
        Ok(stream)
    }

    fn ask(&self, port: u16, question: &str) -> Outcome<String> {
        let mut stream = self.connect(port)?;
        stream.write_all(question.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// Waits until it answers over TCP, and is the one that it should be.
    pub fn comes_up(&self, within: Duration) -> Outcome<Duration> {
        let what = format!("{} answers at {}", self.name, self.address);
        let (who, took) = eventually(within, &what, || self.who())?;
        ensure(who.name == self.name, || {
            format!("{} answers as {}", self.address, who.name)
        })?;
        Ok(took)
    }

    /// What it says of itself.
    pub fn who(&self) -> Outcome<Who> {
        let text = self.ask(WHO, "")?;
        let field = |key: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))
                .map(str::to_string)
                .ok_or_else(|| {
                    Failure::new(format!("{} says nothing of its {key}: {text:?}", self.name))
                })
        };
        Ok(Who {
            name: field("name")?,
            boot: field("boot")?,
            uptime: field("uptime")?.parse()?,
            text: text.clone(),
        })
    }

    /// Runs a command in it: exit status and output. Needs `vireo.shell` on its kernel's command line.
    pub fn run(&self, command: &str) -> Outcome<(i32, String)> {
        let answer = self.ask(SHELL, &format!("{command}\n"))?;
        let (output, status) = answer.rsplit_once("exit ").ok_or_else(|| {
            Failure::new(format!(
                "{} did not finish {command:?}: {answer:?}",
                self.name
            ))
        })?;
        Ok((status.trim().parse()?, output.to_string()))
    }

    /// Whether one of three echo requests from the host is answered.
    pub fn answers_ping(&self) -> Outcome<bool> {
        Ok(run(
            "ping",
            ["-n", "-c", "3", "-i", "0.3", "-w", "4", &self.address],
        )?
        .status
            == 0)
    }

    /// Whether one of three echo requests from another guest is answered.
    pub fn answers_ping_from(&self, other: &Guest) -> Outcome<bool> {
        Ok(other.run(&format!("ping -c 3 -W 1 {}", self.address))?.0 == 0)
    }

    /// Whether another guest gets an answer from it over TCP.
    pub fn answers_tcp_from(&self, other: &Guest) -> Outcome<bool> {
        let (_, output) = other.run(&format!("nc -w 8 {} {WHO} </dev/null", self.address))?;
        Ok(output.contains(&format!("name {}", self.name)))
    }

    /// The tap that its frames come from: where its bridge has learned its hardware address.
    pub fn tap(&self) -> Outcome<String> {
        run("ping", ["-n", "-c", "1", "-w", "1", &self.address])?;
        let neighbours = kernel::json("ip", &format!("-j neigh show {}", self.address))?;
        let mac = neighbours
            .as_array()
            .into_iter()
            .flatten()
            .find_map(|n| n["lladdr"].as_str())
            .ok_or_else(|| {
                Failure::new(format!("no neighbour has the address of {}", self.name))
            })?;
        let entries = kernel::json("bridge", "-j fdb show")?;
        let learned = entries
            .as_array()
            .into_iter()
            .flatten()
            .find(|entry| entry["mac"] == *mac && entry["state"] != "permanent");
        let tap = learned.and_then(|entry| entry["ifname"].as_str());
        Ok(tap
            .ok_or_else(|| {
                Failure::new(format!(
                    "no bridge has learned {mac}, the address of {}",
                    self.name
                ))
            })?
            .into())
    }

    /// Its monitor's process: the one that holds its tap.
    pub fn process(&self) -> Outcome<Process> {
        let tap = self.tap()?;
        let holders = kernel::holders_of_tap(&tap)?;
        match holders.as_slice() {
            [one] => Ok(*one),
            _ => Err(Failure::new(format!(
                "{tap} of {} is held by {holders:?}",
                self.name
            ))),
        }
    }

    /// The rate at which it takes data, in KiB/s, after a second to fill the queues on the way.
    pub fn takes(&self, during: Duration) -> Outcome<f64> {
        let mut stream = self.connect(SINK)?;
        let block = vec![0u8; 16 << 10];
        rate(during, || Ok(stream.write(&block)?))
    }

    /// The rate at which it gives data, in KiB/s, after a second to fill the queues on the way.
    pub fn gives(&self, during: Duration) -> Outcome<f64> {
        let mut stream = self.connect(ZEROS)?;
        let mut block = vec![0u8; 16 << 10];
        rate(during, || Ok(stream.read(&mut block)?))
    }
}

fn rate(during: Duration, mut transfer: impl FnMut() -> Outcome<usize>) -> Outcome<f64> {
    let warm = Instant::now();
    while warm.elapsed() < Duration::from_secs(2) {
        transfer()?;
    }
    let start = Instant::now();
    let mut bytes = 0;
    while start.elapsed() < during {
        bytes += transfer()?;
    }
    Ok(bytes as f64 / 1024.0 / start.elapsed().as_secs_f64())
}
