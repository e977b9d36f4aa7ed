//! `vireo validate` over libvirt's own domain documents, each under a new name, beside `xmllint --relaxng` and `virt-xml-validate` on the same files.
//!
//! The documents and the RNG schemas are those of the corpus at `$VIREO_CORPUS` or `../shared/corpus`. All peers read warm files and print nothing. What a
//! peer thinks of a document is not judged: libvirt's schema lags behind its parser in a few places.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use vireo_tests::lab::{Failure, Outcome, command, ensure, run};

use crate::{binary, median, row, seconds};

const TURNS: usize = 3;
/// `virt-xml-validate` takes one file at a time and two processes for each: it is not asked for more than this.
const ONE_BY_ONE: usize = 300;

pub fn bench(words: &[String]) -> Outcome {
    let mut counts = Vec::new();
    for word in words {
        counts.push(word.parse()?);
    }
    if counts.is_empty() {
        counts = vec![ONE_BY_ONE, 1_000, 10_000];
    }
    let corpus = corpus()?;
    let schema = corpus.join("common/schemas/domain.rng");
    let texts = valid(&corpus.join("dev/domain"))?;
    let scratch = std::env::var_os("VIREO_BENCH_DIR")
        .map_or_else(|| PathBuf::from("/run/vireo-bench"), PathBuf::from);
    for count in counts {
        let folder = scratch.join(format!("validate-{count}"));
        write(&folder, &texts, count)?;
        compare(&folder, &schema, count)?;
        fs::remove_dir_all(&folder)?;
    }
    Ok(())
}

fn corpus() -> Outcome<PathBuf> {
    let stated = std::env::var_os("VIREO_CORPUS").map(PathBuf::from);
    stated
        .into_iter()
        .chain([PathBuf::from("../shared/corpus")])
        .find(|path| path.is_dir())
        .ok_or_else(|| {
            Failure::new(
                "no corpus at $VIREO_CORPUS or ../shared/corpus: nothing to validate was found",
            )
        })
}

/// The texts of the folder's documents that `vireo validate` accepts, with the place of the name in each.
fn valid(folder: &Path) -> Outcome<Vec<(String, std::ops::Range<usize>)>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "xml") {
            paths.push(path);
        }
    }
    paths.sort();
    let mut texts = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path)?;
        let name = text.find("<name>").zip(text.find("</name>"));
        let accepted = vireo(&[&path])?.status == 0;
        if let (true, Some((start, end))) = (accepted, name) {
            texts.push((text, start + "<name>".len()..end));
        }
    }
    ensure(!texts.is_empty(), || "no valid document was found".into())?;
    Ok(texts)
}

fn write(folder: &Path, texts: &[(String, std::ops::Range<usize>)], count: usize) -> Outcome {
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder)?;
    for (number, (text, name)) in texts.iter().cycle().take(count).enumerate() {
        let mut text = text.clone();
        text.replace_range(name.clone(), &format!("guest-{number}"));
        let mut file = fs::File::create(folder.join(format!("{number:05}.xml")))?;
        file.write_all(text.as_bytes())?;
    }
    Ok(())
}

fn compare(folder: &Path, schema: &Path, count: usize) -> Outcome {
    let what = format!("validate {count} domain documents");
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        files.push(entry?.path());
    }
    files.sort();
    let files: Vec<&PathBuf> = files.iter().collect();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        ours.push(vireo(&files)?.exits(0)?.took);
        theirs.push(xmllint(schema, &files)?);
    }
    let ours = median(&mut ours)?;
    let resident = peak_resident(&files)? >> 10;
    let each = ours.as_secs_f64() * 1e6 / count as f64;
    row(
        &what,
        "vireo",
        &seconds(ours),
        &format!("{each:.0} µs each, {resident} MiB at most"),
    );
    let beside = |time: Duration| {
        format!(
            "{:.1} times vireo's",
            time.as_secs_f64() / ours.as_secs_f64()
        )
    };
    let theirs = median(&mut theirs)?;
    row(&what, "xmllint", &seconds(theirs), &beside(theirs));
    if count > ONE_BY_ONE {
        return Ok(());
    }
    match one_by_one(&files)? {
        Some(time) => row(&what, "virt-xml-valid.", &seconds(time), &beside(time)),
        None => row(
            &what,
            "virt-xml-valid.",
            "-",
            "not here: tests/setup --bench",
        ),
    }
    Ok(())
}

fn vireo(files: &[&PathBuf]) -> Outcome<command::Ran> {
    let mut command = Command::new(binary("vireo")?);
    command.arg("validate").args(files);
    command::run_with(command)
}

/// All files in one process, which reads the schema once.
fn xmllint(schema: &Path, files: &[&PathBuf]) -> Outcome<Duration> {
    let mut command = Command::new("xmllint");
    command
        .args(["--noout", "--relaxng"])
        .arg(schema)
        .args(files);
    Ok(command::run_with(command)?.took)
}

fn one_by_one(files: &[&PathBuf]) -> Outcome<Option<Duration>> {
    let there = "command -v virt-xml-validate && test -e /usr/share/libvirt/schemas/domain.rng";
    if run("sh", ["-c", there])?.status != 0 {
        return Ok(None);
    }
    let start = Instant::now();
    for file in files {
        let mut command = Command::new("virt-xml-validate");
        command.arg(file).arg("domain");
        command::run_with(command)?;
    }
    Ok(Some(start.elapsed()))
}

/// The most memory that validating these files takes, in KiB: a run of its own, looked at every millisecond.
fn peak_resident(files: &[&PathBuf]) -> Outcome<u64> {
    let mut child = Command::new(binary("vireo")?)
        .arg("validate")
        .args(files)
        .stdout(Stdio::null())
        .spawn()?;
    let status = PathBuf::from(format!("/proc/{}/status", child.id()));
    let mut most = 0;
    while child.try_wait()?.is_none() {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
        most = most.max(peak.unwrap_or(0));
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(most)
}
