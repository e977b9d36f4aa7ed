//! `vireo validate`, as a person sees it: the list of rules, and a directory in which much is wrong.

use std::path::Path;
use std::process::{Command, Output};

fn validate(arguments: &[&str], folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vireo"))
        .arg("validate")
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("vireo starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A directory with the same mistakes in every file.
fn mistakes(files: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for number in 1..=files {
        let guest = format!(
            "domain: guest{number}\nmemory: 1 GiB\ndisks:\n- {{file: /a, dev: vda}}\n- {{file: /b, dev: vda}}\ninterfaces:\n- network: defualt\n  mac: 52:54:00:00:00:{number:02x}\n"
        );
        std::fs::write(folder.path().join(format!("guest{number}.yaml")), guest).expect("written");
    }
    folder
}

#[test]
fn the_rules_are_listed_with_what_breaks_each() {
    let listed = validate(&["--rules"], Path::new("."));
    assert!(listed.status.success());
    insta::with_settings!({prepend_module_to_snapshot => false, omit_expression => true}, {
        insta::assert_snapshot!("rules", text(&listed.stdout));
    });
}

#[test]
fn the_rules_are_listed_for_programs_too() {
    let listed = validate(&["--rules", "-o", "json"], Path::new("."));
    let rules: Vec<serde_json::Value> =
        serde_json::from_slice(&listed.stdout).expect("a list in JSON");
    assert_eq!(rules.len(), vireo_schema::Rule::ALL.len());
    assert!(
        rules
            .iter()
            .all(|rule| rule["name"].is_string() && rule["meaning"].is_string())
    );
}

/// What a script for bash, to which vireo is `$0`, ends with and says: its status, its output, its errors.
fn through(script: &str) -> (Option<i32>, String, String) {
    let mut shell = Command::new("bash");
    shell.args(["-c", script, env!("CARGO_BIN_EXE_vireo")]);
    let told = shell.output().expect("bash starts");
    (
        told.status.code(),
        text(&told.stdout).trim_end().to_owned(),
        text(&told.stderr),
    )
}

#[test]
fn a_definition_is_read_from_standard_input_and_from_a_pipe_too() {
    let whole = "1 definition in 1 file, no problems";
    let network = "echo 'network: default'";
    for script in [
        format!("{network} | $0 validate -"),
        format!("{network} | $0 validate /dev/stdin"),
        format!("$0 validate <({network})"),
        format!(
            "cd $(mktemp -d) && mkfifo a.yaml && ({network} >a.yaml & $0 validate a.yaml); rm -r \"$PWD\""
        ),
    ] {
        let told = through(&script);
        assert_eq!(told.1, whole, "{script} {told:?}");
    }
    let (status, _, told) = through("echo 'netwrok: a' | $0 validate -");
    assert_eq!(status, Some(1));
    assert!(told.contains("<standard input>:1:1"), "{told}");
}

#[test]
fn more_than_a_file_of_definitions_may_have_is_not_read_from_standard_input() {
    let full = "(echo 'network: default'; yes '#' | head -c 16777000)";
    let (status, told, _) = through(&format!("{full} | $0 validate -"));
    assert_eq!(
        (status, told.as_str()),
        (Some(0), "1 definition in 1 file, no problems")
    );
    for command in ["validate -", "convert --to xml -", "validate /dev/stdin"] {
        let (status, _, told) = through(&format!("yes | $0 {command}"));
        assert!(matches!(status, Some(1..=2)), "{command}: {status:?}");
        let why = "is larger than 16 MiB: split it into smaller files";
        assert!(told.contains(why), "{command}: {told}");
    }
}

#[test]
fn a_directory_with_many_problems_is_told_file_by_file_and_summed_up_last() {
    let folder = mistakes(3);
    std::fs::write(folder.path().join("net.yaml"), "network: default\n").expect("written");
    let told = validate(&["."], folder.path());
    assert_eq!(told.status.code(), Some(1));
    insta::with_settings!({prepend_module_to_snapshot => false, omit_expression => true}, {
        insta::assert_snapshot!("many_problems", format!("{}{}", text(&told.stderr), text(&told.stdout)));
    });
}

#[test]
fn fifty_problems_are_all_told_and_the_count_stands_at_the_end() {
    let folder = mistakes(50);
    let told = validate(&["."], folder.path());
    let (reports, sums) = (text(&told.stderr), text(&told.stdout));
    assert_eq!(reports.matches("duplicate-target").count(), 50, "{reports}");
    assert_eq!(sums.lines().count(), 51, "{sums}");
    assert_eq!(
        sums.lines().last(),
        Some("50 definitions in 50 files, 50 problems in 50 of them")
    );
}
