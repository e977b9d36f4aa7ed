//! The definitions that come with vireo: whole, and complete with one another.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vireo_schema::{Document, Source, check, read};

/// Every file under a directory, in order.
fn files(directory: &Path, into: &mut Vec<PathBuf>) -> std::io::Result<()> {
    let mut entries: Vec<PathBuf> = fs::read_dir(directory)?
        .flatten()
        .map(|e| e.path())
        .collect();
    entries.sort();
    for entry in entries {
        if entry.is_dir() {
            files(&entry, into)?;
        } else {
            into.push(entry);
        }
    }
    Ok(())
}

fn sound(directory: &str) -> Result<(), Box<dyn Error>> {
    let mut paths = Vec::new();
    files(
        &Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("..")
            .join(directory),
        &mut paths,
    )?;
    assert!(!paths.is_empty(), "{directory} holds no file");
    let mut documents: Vec<Document> = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path)?;
        let document = read(&Arc::new(Source::new(path.clone(), text)));
        assert!(
            document.problems.is_empty(),
            "{}: {:#?}",
            path.display(),
            document.problems
        );
        assert!(
            !document.definitions.is_empty(),
            "{} defines nothing",
            path.display()
        );
        documents.push(document);
    }
    let problems = check(&documents);
    assert!(problems.is_empty(), "{directory}: {problems:#?}");
    Ok(())
}

#[test]
fn the_quickstart_is_sound() -> Result<(), Box<dyn Error>> {
    sound("examples/quickstart/desired")
}

#[test]
fn the_standard_definitions_are_sound() -> Result<(), Box<dyn Error>> {
    sound("desired-state")
}

#[test]
fn the_story_is_sound() -> Result<(), Box<dyn Error>> {
    sound("tests/scenarios/story")
}
