use super::*;
use crate::host::testing::{in_namespace, shell};

const NETWORK: Uuid = Uuid::from_u128(0x42);

fn files(folder: &Path, range: &str, hosts: &str) -> BTreeMap<String, String> {
    let at = folder.display();
    let configuration = format!(
        "strict-order\nexcept-interface=lo\nbind-dynamic\ninterface=vbr0\nno-resolv\ndhcp-range={range}\ndhcp-hostsfile={at}/hosts\ndhcp-leasefile={at}/leases\n"
    );
    [
        (CONFIGURATION.to_owned(), configuration),
        ("hosts".to_owned(), hosts.to_owned()),
    ]
    .into()
}

struct Served(tempfile::TempDir);

impl Served {
    fn new() -> Self {
        shell(
            "ip link add vbr0 type bridge && ip addr add 10.5.0.1/24 dev vbr0 && ip link set vbr0 up",
        );
        Self(tempfile::tempdir().unwrap())
    }

    async fn ensure(&self, range: &str, hosts: &str, digest: &str) -> Result<(), EffectError> {
        let files = files(&folder(self.0.path(), NETWORK), range, hosts);
        ensure(self.0.path(), NETWORK, "vbr0", &files, digest).await
    }

    fn seen(&self) -> Option<DnsmasqProcess> {
        observe(self.0.path()).unwrap().processes.remove(&NETWORK)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some((process, _)) = running(&folder(self.0.path(), NETWORK)) {
            let _ = Handle::open(process).map(|handle| handle.map(|h| h.signal(Signal::KILL)));
        }
    }
}

const RANGE: &str = "10.5.0.2,10.5.0.254";

fn has_dnsmasq() -> bool {
    let found = command::find_tool("dnsmasq").is_some();
    if !found {
        eprintln!("skipped: no dnsmasq");
    }
    found
}

#[tokio::test]
async fn a_network_has_one_dnsmasq_with_the_files_it_was_given() {
    in_namespace!(a_network_has_one_dnsmasq_with_the_files_it_was_given);
    if !has_dnsmasq() {
        return;
    }
    let served = Served::new();
    assert_eq!(served.seen(), None);
    served.ensure(RANGE, "", "one").await.unwrap();
    let first = served.seen().unwrap();
    assert_eq!(first.digest, "one");
    served.ensure(RANGE, "", "one").await.unwrap();
    assert_eq!(
        served.seen().unwrap(),
        first,
        "applying twice changes nothing"
    );

    served
        .ensure(RANGE, "52:54:00:00:00:01,10.5.0.9\n", "two")
        .await
        .unwrap();
    let second = served.seen().unwrap();
    assert_eq!(
        (second.pid, second.digest.as_str()),
        (first.pid, "two"),
        "lists are read again"
    );

    served
        .ensure("10.5.0.2,10.5.0.9", "", "three")
        .await
        .unwrap();
    let third = served.seen().unwrap();
    assert_ne!(third.pid, first.pid);
    assert!(
        Identity::of(first.pid).is_none(),
        "the one before has ended"
    );

    for _ in 0..2 {
        stop(served.0.path(), NETWORK).await.unwrap();
    }
    assert_eq!(served.seen(), None);
    assert!(Identity::of(third.pid).is_none());
    assert!(!folder(served.0.path(), NETWORK).exists());
}

#[tokio::test]
async fn one_that_was_killed_is_missed_and_started_again() {
    in_namespace!(one_that_was_killed_is_missed_and_started_again);
    if !has_dnsmasq() {
        return;
    }
    let served = Served::new();
    served.ensure(RANGE, "", "one").await.unwrap();
    let first = served.seen().unwrap();
    shell(&format!("kill -9 {} && sleep 0.1", first.pid));
    assert_eq!(served.seen(), None);
    served.ensure(RANGE, "", "one").await.unwrap();
    assert_ne!(served.seen().unwrap().pid, first.pid);
}

#[tokio::test]
async fn one_that_was_started_and_not_recorded_is_not_left_beside_another() {
    in_namespace!(one_that_was_started_and_not_recorded_is_not_left_beside_another);
    if !has_dnsmasq() {
        return;
    }
    let served = Served::new();
    served.ensure(RANGE, "", "one").await.unwrap();
    let first = served.seen().unwrap();
    fs::remove_file(folder(served.0.path(), NETWORK).join(RECORD)).unwrap();
    assert_eq!(served.seen(), None);
    served.ensure(RANGE, "", "one").await.unwrap();
    assert!(Identity::of(first.pid).is_none());
    assert_eq!(served.seen().unwrap().digest, "one");
}

#[tokio::test]
async fn dnsmasq_is_quoted_when_it_refuses() {
    in_namespace!(dnsmasq_is_quoted_when_it_refuses);
    if !has_dnsmasq() {
        return;
    }
    let served = Served::new();
    let error = served.ensure("nonsense", "", "one").await.unwrap_err();
    assert!(error.message.contains("bad dhcp-range"), "{error}");
    assert!(!error.retry);
    assert_eq!(served.seen(), None);
}

#[test]
fn a_process_with_the_same_number_is_not_ours() {
    let folder = tempfile::tempdir().unwrap();
    let me = Identity::of(std::process::id()).unwrap();
    fs::write(folder.path().join("pid"), me.pid.to_string()).unwrap();
    record(folder.path(), me, "x", "test").unwrap();
    assert_eq!(
        running(folder.path()),
        None,
        "the command line is another's"
    );
}

#[test]
fn leases_that_hold_are_read_and_nothing_else() {
    let text = "\
2000 52:54:00:12:34:56 192.168.122.10 web 01:52:54:00:12:34:56
0 52:54:00:12:34:57 192.168.122.11 * *
999 52:54:00:12:34:58 192.168.122.12 gone *
duid 00:01:00:01:2a:bb:cc:dd:52:54:00:11:22:33
2000 1179010630 fd00::10 web 00:03:00:01:52:54:00:12:34:56
2000 06-52:54:00 192.168.122.13 odd *
nonsense
2000 52:54:00:12:34:56 192.168.122.14 web *
";
    let found: Vec<String> = leases(text, 1000).map(|(_, ip)| ip.to_string()).collect();
    assert_eq!(
        found,
        ["192.168.122.10", "192.168.122.11", "192.168.122.14"]
    );
    assert_eq!(
        mac_address("52:54:00:12:34:56"),
        Some([0x52, 0x54, 0, 0x12, 0x34, 0x56])
    );
    assert_eq!(mac_address("52:54:00:12:34"), None);
}
