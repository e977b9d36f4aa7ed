//! What a guest reads, writes, sends and receives a second, and how long a round trip over its tap takes: vireo-vmm, QEMU microvm, QEMU q35.
//!
//! The three guests run at once and are asked in turn, so that what else the host does falls on all. The kernel's vhost-net moves the packets of each, which is what all begin with
//! here. Disks are images in the host's memory, through its page cache as
//! is the default, and past the guest's (`tests/lab/guest/load.rs`). Of images each byte was written before it is measured.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use vireo_tests::lab::{Failure, Guest, Outcome, run};

use crate::monitor::{MONITORS, Machine, Monitor, Monitors, Running};
use crate::{median, row};

const TURNS: usize = 3;
/// Turns of what wanders more: the guest and the host's end of its network share the processors.
const NETWORK_TURNS: usize = 9;
const TURN: Duration = Duration::from_secs(1);
const DISK_MIB: u64 = 16;
const PATIENCE: Duration = Duration::from_secs(120);

/// What is asked of a guest.
#[derive(Clone, Copy)]
enum Ask {
    /// `load` on a disk: direction and order, bytes of a request, requests under way.
    Disk(&'static str, &'static str, u64, u32),
    /// To take what the host sends.
    Take,
    /// To send what the host takes.
    Give,
    /// To send back each byte that the host sends.
    Echo,
}

/// What is measured.
const ASKS: [(&str, Ask); 13] = [
    (
        "raw, read 1 MiB at a time",
        Ask::Disk("vda", "read sequential", 1 << 20, 1),
    ),
    (
        "raw, write 1 MiB at a time",
        Ask::Disk("vda", "write sequential", 1 << 20, 1),
    ),
    (
        "raw, read 4 KiB anywhere",
        Ask::Disk("vda", "read random", 4096, 1),
    ),
    (
        "raw, write 4 KiB anywhere",
        Ask::Disk("vda", "write random", 4096, 1),
    ),
    (
        "raw, read 4 KiB anywhere, 4 at once",
        Ask::Disk("vda", "read random", 4096, 4),
    ),
    (
        "qcow2, read 1 MiB at a time",
        Ask::Disk("vdb", "read sequential", 1 << 20, 1),
    ),
    (
        "qcow2, write 1 MiB at a time",
        Ask::Disk("vdb", "write sequential", 1 << 20, 1),
    ),
    (
        "qcow2, read 4 KiB anywhere",
        Ask::Disk("vdb", "read random", 4096, 1),
    ),
    (
        "qcow2, write 4 KiB anywhere",
        Ask::Disk("vdb", "write random", 4096, 1),
    ),
    (
        "qcow2, read 4 KiB anywhere, 4 at once",
        Ask::Disk("vdb", "read random", 4096, 4),
    ),
    ("TCP to the guest", Ask::Take),
    ("TCP from the guest", Ask::Give),
    ("round trips of a byte over TCP", Ask::Echo),
];

/// A guest under measurement.
struct Subject {
    name: &'static str,
    guest: Guest,
    _running: Running,
}

pub fn bench() -> Outcome {
    let monitors = Monitors::new()?;
    let mut subjects = Vec::new();
    for ((monitor, name), number) in MONITORS.into_iter().zip(1..) {
        let subject = begin(&monitors, monitor, name, number);
        subjects.push(subject.map_err(|failure| failure.during(name))?);
    }
    for (what, ask) in ASKS {
        let mut figures = vec![Vec::new(); subjects.len()];
        let turns = ask.turns();
        for turn in 1..=turns {
            eprintln!("  io: {what}, {turn} of {turns}");
            for (figures, subject) in figures.iter_mut().zip(&subjects) {
                let figure = subject.answer(ask);
                figures.push(figure.map_err(|failure| failure.during(subject.name))?);
            }
        }
        let mut medians = Vec::new();
        for figures in &mut figures {
            medians.push(median(figures)?);
        }
        let own = medians.first().copied().unwrap_or_default();
        for (subject, figure) in subjects.iter().zip(&medians) {
            let figure = *figure;
            let remark = match subject.name {
                "vireo-vmm" => String::new(),
                _ => format!("vireo-vmm has {:.2} of it", own / figure),
            };
            row(what, subject.name, &ask.words(figure), &remark);
        }
    }
    Ok(())
}

/// Starts a guest with its disks and its own network, and waits until it serves.
fn begin(
    monitors: &Monitors,
    monitor: Monitor,
    name: &'static str,
    number: u32,
) -> Outcome<Subject> {
    let tap = format!("bench{number}");
    let [host, address] = [1, 2].map(|end| format!("10.77.{number}.{end}"));
    run("ip", ["tuntap", "add", &tap, "mode", "tap", "vnet_hdr"])?.exits(0)?;
    run("ip", ["addr", "add", &format!("{host}/24"), "dev", &tap])?.exits(0)?;
    run("ip", ["link", "set", &tap, "up"])?.exits(0)?;
    let mut disks = Vec::new();
    for format in ["raw", "qcow2"] {
        let path = monitors.work().join(format!("{tap}.{format}"));
        let (file, size) = (path.display().to_string(), format!("{DISK_MIB}M"));
        run("qemu-img", ["create", "-q", "-f", format, &file, &size])?.exits(0)?;
        disks.push((path, format));
    }
    let machine = Machine {
        cmdline: &format!("console=ttyS0 quiet vireo.shell vireo.name={tap} vireo.ip={address}/24"),
        disks: &disks,
        tap: Some(&tap),
    };
    let mut running = monitors.start(monitor, &machine)?;
    running.says("GUEST READY")?;
    let guest = Guest { name: tap, address };
    guest.comes_up(PATIENCE)?;
    for disk in ["vda", "vdb"] {
        for place in 0..DISK_MIB {
            let line = format!("dd if=/dev/zero of=/dev/{disk} bs=1M count=1 seek={place}");
            guest.run(&line)?;
        }
    }
    Ok(Subject {
        name,
        guest,
        _running: running,
    })
}

impl Ask {
    /// How often it is asked.
    fn turns(self) -> usize {
        match self {
            Self::Disk(..) => TURNS,
            Self::Take | Self::Give | Self::Echo => NETWORK_TURNS,
        }
    }

    /// A figure of it, as people read it.
    fn words(self, figure: f64) -> String {
        match self {
            Self::Disk(_, _, bytes, _) if bytes > 4096 => format!("{figure:.0} MiB/s"),
            Self::Take | Self::Give => format!("{figure:.1} MiB/s"),
            Self::Disk(..) | Self::Echo => format!("{figure:.0} /s"),
        }
    }
}

impl Subject {
    /// Requests, MiB or round trips a second.
    fn answer(&self, ask: Ask) -> Outcome<f64> {
        match ask {
            Ask::Disk(disk, order, bytes, at_once) => {
                let time = TURN.as_millis();
                let line = format!("load /dev/{disk} {order} {bytes} {at_once} {time}");
                let (_, output) = self.guest.run(&line)?;
                let mut words = output.trim().split(' ').skip(1).map(str::parse::<f64>);
                let (Some(Ok(requests)), Some(Ok(nanoseconds))) = (words.next(), words.next())
                else {
                    return Err(Failure::new(format!("`{line}` said {output:?}")));
                };
                // Of 1 MiB each, so many requests are as many MiB.
                Ok(requests / (nanoseconds / 1e9))
            }
            Ask::Take => Ok(self.guest.takes(TURN)? / 1024.0),
            Ask::Give => Ok(self.guest.gives(TURN)? / 1024.0),
            Ask::Echo => self.round_trips(),
        }
    }

    fn round_trips(&self) -> Outcome<f64> {
        let mut stream = TcpStream::connect((self.guest.address.as_str(), 7))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let start = Instant::now();
        let mut trips = 0_u32;
        while start.elapsed() < TURN {
            stream.write_all(b"x")?;
            stream.read_exact(&mut [0])?;
            trips += 1;
        }
        Ok(f64::from(trips) / start.elapsed().as_secs_f64())
    }
}
