//! Tests that change links and tables run in a network namespace of their own: the test starts itself again inside one.

use std::process::Command;

/// Runs the calling test inside a private network and mount namespace. True inside it; false outside, when the test has run there and passed (or could
/// not, and says why).
///
/// # Panics
/// When the test failed inside.
pub fn namespace(test: &str) -> bool {
    if std::env::var_os("VIREO_TEST_NAMESPACE").is_some() {
        return true;
    }
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped {test}: making network namespaces needs root");
        return false;
    }
    let test = test.split_once("::").map_or(test, |(_, path)| path);
    let output = Command::new("unshare")
        .args(["--net", "--mount", "--"])
        .arg(std::env::current_exe().expect("a test has an executable"))
        .args(["--exact", test, "--nocapture", "--test-threads", "1"])
        .env("VIREO_TEST_NAMESPACE", "1")
        .output();
    match output {
        Err(error) => eprintln!("skipped {test}: unshare: {error}"),
        Ok(output) => {
            let said = format!(
                "{}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
            eprintln!("{said}");
            assert!(output.status.success(), "failed in its namespace:\n{said}");
            assert!(
                said.contains("1 passed"),
                "{test} is not the name of a test"
            );
        }
    }
    false
}

/// The path of the test function that it is used in.
macro_rules! in_namespace {
    ($test:ident) => {
        if !$crate::host::testing::namespace(concat!(module_path!(), "::", stringify!($test))) {
            return;
        }
    };
}
pub(crate) use in_namespace;

/// Runs a shell line and gives back what it wrote.
///
/// # Panics
/// When it fails.
pub fn shell(line: &str) -> String {
    let output = Command::new("sh")
        .args(["-c", line])
        .output()
        .expect("a shell");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{line}: {}{text}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}
