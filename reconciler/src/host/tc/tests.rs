use std::process::{Child, Command, Stdio};

use super::*;
use crate::host::testing::{in_namespace, shell};
use crate::inventory;

fn rate(average: u64, peak: Option<u64>, burst: Option<u64>) -> Option<Rate> {
    Some(Rate {
        average,
        peak,
        burst,
    })
}

fn both(inbound: Option<Rate>, outbound: Option<Rate>) -> Bandwidth {
    Bandwidth { inbound, outbound }
}

/// A link of ours whose other end is in a network namespace of its own, as a guest's is.
struct Wire(Child);

impl Wire {
    fn new() -> Self {
        let far = Command::new("unshare")
            .args(["--net", "sleep", "120"])
            .spawn()
            .expect("unshare");
        let pid = far.id();
        std::thread::sleep(Duration::from_millis(100));
        shell(&format!(
            "ip link add near type veth peer name far && ip link set far netns {pid}
             ip addr add 10.0.0.1/24 dev near && ip link set near up alias vireo:{}
             nsenter -t {pid} -n sh -c 'ip addr add 10.0.0.2/24 dev far && ip link set far up'",
            Uuid::from_u128(1)
        ));
        Self(far)
    }

    fn limits() -> Bandwidth {
        inventory::links::observe().unwrap()["near"]
            .bandwidth
            .clone()
    }

    /// KiB a second that TCP carries to (or from) the far end, over three seconds.
    fn measure(&self, to_far: bool) -> f64 {
        const SERVER: &str = "
import socket,time
s=socket.socket(); s.setsockopt(socket.SOL_SOCKET,socket.SO_REUSEADDR,1); s.bind(('',5001)); s.listen(1)
c,_=s.accept(); n=0; t=None; end=None
while True:
    d=c.recv(65536)
    if not d: break
    now=time.time()
    t=t or now+0.5
    if now<t: continue
    if end is None: end=now; start=now
    n+=len(d); end=now
print(n/1024/(end-start))
";
        const CLIENT: &str = "
import socket,time,sys
for _ in range(50):
    try: s=socket.create_connection((sys.argv[1],5001)); break
    except OSError: time.sleep(0.05)
t=time.time()+3.5
while time.time()<t: s.send(b'x'*65536)
";
        let inside = |program: &str, argument: &str| {
            let mut command = Command::new("nsenter");
            command.args([
                "-t",
                &self.0.id().to_string(),
                "-n",
                "python3",
                "-c",
                program,
            ]);
            command.arg(argument);
            command
        };
        let here = |program: &str, argument: &str| {
            let mut command = Command::new("python3");
            command.args(["-c", program, argument]);
            command
        };
        let (mut server, mut client) = if to_far {
            (inside(SERVER, ""), here(CLIENT, "10.0.0.2"))
        } else {
            (here(SERVER, ""), inside(CLIENT, "10.0.0.1"))
        };
        let server = server.stdout(Stdio::piped()).spawn().expect("python3");
        assert!(client.status().expect("python3").success());
        let said = server.wait_with_output().expect("python3").stdout;
        String::from_utf8_lossy(&said)
            .trim()
            .parse()
            .expect("a number")
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn limits_are_read_back_as_they_were_stated() {
    in_namespace!(limits_are_read_back_as_they_were_stated);
    let _wire = Wire::new();
    for wanted in [
        both(rate(1000, None, None), None),
        both(
            rate(1000, Some(5000), Some(5120)),
            rate(128, Some(256), Some(256)),
        ),
        both(None, rate(1, None, None)),
        both(
            rate(10_000_000, None, Some(100_000)),
            rate(777, Some(777), None),
        ),
        both(rate(1001, None, Some(64)), rate(778, Some(779), None)),
        both(None, None),
        both(rate(5_000_000, None, None), rate(12_345_678, None, None)),
    ] {
        set("near", &wanted).await.unwrap();
        assert_eq!(Wire::limits(), wanted);
        let before = shell("tc qdisc show; tc class show dev near | grep htb || true");
        set("near", &wanted).await.unwrap();
        assert_eq!(
            shell("tc qdisc show; tc class show dev near | grep htb || true"),
            before
        );
    }
    set("near", &both(None, None)).await.unwrap();
    assert_eq!(
        shell("tc qdisc show dev near | grep -c htb || true").trim(),
        "0"
    );
    assert!(!shell("ip link").contains(&helper_name("near")));
}

#[tokio::test]
async fn every_kind_of_damage_shows_and_is_repaired() {
    in_namespace!(every_kind_of_damage_shows_and_is_repaired);
    let _wire = Wire::new();
    let wanted = both(rate(1000, None, None), rate(500, None, None));
    let helper = helper_name("near");
    for damage in [
        "tc qdisc del dev near root".to_owned(),
        "tc class change dev near parent 1: classid 1:10 htb rate 9mbit ceil 9mbit".to_owned(),
        "tc class del dev near classid 1:10".to_owned(),
        "tc qdisc replace dev near root tbf rate 1mbit burst 10k latency 50ms".to_owned(),
        "tc qdisc del dev near ingress".to_owned(),
        "tc filter del dev near parent ffff:".to_owned(),
        format!("ip link del {helper}"),
        format!("ip link set {helper} down"),
        format!("tc qdisc del dev {helper} root"),
    ] {
        set("near", &wanted).await.unwrap();
        assert_eq!(Wire::limits(), wanted, "before {damage}");
        shell(&damage);
        assert_ne!(Wire::limits(), wanted, "{damage}");
    }
    set("near", &wanted).await.unwrap();
    assert_eq!(Wire::limits(), wanted);
}

#[tokio::test]
async fn a_queue_device_outlives_its_tap_visibly_and_is_deleted_only_without_one() {
    in_namespace!(a_queue_device_outlives_its_tap_visibly_and_is_deleted_only_without_one);
    let owner = Uuid::from_u128(1);
    let socket = &mut NetlinkSocket::route().unwrap();
    let tap = links::Tap {
        name: "vt0",
        bridge: None,
        mtu: None,
        multi_queue: false,
    };
    links::ensure_tap(socket, &tap, owner).unwrap();
    let wanted = both(None, rate(500, None, None));
    set("vt0", &wanted).await.unwrap();
    let helper = helper_name("vt0");
    let seen = || inventory::links::observe().unwrap();
    assert!(!seen().contains_key(&helper), "a part of the tap's limits");
    links::delete_link(socket, &helper, owner).unwrap();
    assert_eq!(seen()["vt0"].bandwidth, wanted);
    shell("ip link del vt0");
    assert_eq!(
        seen()[&helper].owner,
        Some(owner),
        "left over, and ours to remove"
    );
    links::delete_link(socket, &helper, owner).unwrap();
    assert!(!seen().contains_key(&helper));
}

#[tokio::test]
async fn measured_rates_are_within_a_fifth_of_the_stated() {
    in_namespace!(measured_rates_are_within_a_fifth_of_the_stated);
    let wire = Wire::new();
    let unlimited = wire.measure(true);
    eprintln!("without limits, measured {unlimited:.0} KiB/s");
    for (inbound, outbound) in [(500, 1000), (20_000, 5_000)] {
        if unlimited < 3.0 * inbound.max(outbound) as f64 {
            eprintln!(
                "skipped {inbound} and {outbound} KiB/s: this machine is too slow to need limits"
            );
            continue;
        }
        let wanted = both(rate(inbound, None, None), rate(outbound, None, None));
        set("near", &wanted).await.unwrap();
        for (stated, to_far) in [(inbound, true), (outbound, false)] {
            let measured = wire.measure(to_far);
            let ratio = measured / stated as f64;
            eprintln!("stated {stated} KiB/s, measured {measured:.0} KiB/s ({ratio:.3})");
            assert!((0.8..1.2).contains(&ratio), "{ratio}");
        }
    }
}

#[tokio::test]
async fn what_the_kernel_cannot_count_is_refused() {
    let long = both(rate(1, None, Some(1024)), None);
    assert!(
        set("near", &long)
            .await
            .unwrap_err()
            .message
            .contains("274 seconds")
    );
    let nothing = both(rate(0, None, None), None);
    assert!(!set("near", &nothing).await.unwrap_err().retry);
}
