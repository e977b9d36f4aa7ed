//! From libvirt's own files to tidy definitions.
//!
//! In: texts in libvirt's XML (one file, a stream of several documents, or a configuration directory such as `/etc/libvirt`). Out: definitions that say what a person would have said
//! ([`vireo_schema::tidy`]), each with the state that it had there. What cannot be read is told with its place, and does not keep the rest from being imported.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vireo_schema::tidy::{Keep, tidy};
use vireo_schema::{Definition, Diagnostic, Kind, Located, Policy, Source, WantedState, xml};

/// The largest file that is read, in bytes.
const FILE_MAX: u64 = 64 << 20;

/// A text to import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// Where it is from.
    pub path: PathBuf,
    /// Whether libvirt starts its object with the host; `None` where that cannot be told.
    pub autostart: Option<bool>,
    /// The text.
    pub text: String,
}

/// One imported definition.
#[derive(Debug, Clone)]
pub struct Imported {
    /// What is defined.
    pub definition: Definition,
    /// How it is wanted.
    pub policy: Policy,
    /// Where it was found: a file and a line.
    pub from: String,
}

impl Imported {
    /// Where it is put below a directory of definitions: `domain/web`, without an ending. A name's characters that have a meaning in paths are replaced.
    pub fn place(&self) -> PathBuf {
        let name = match self.definition.kind() {
            Kind::Secret => self.definition.uuid().to_string(),
            _ => self.definition.name(),
        };
        let plain = |c: char| match c {
            '/' | '\\' => '-',
            c if c.is_control() => '-',
            c => c,
        };
        let name: String = name.chars().map(plain).collect();
        // Hidden files are not definitions.
        let name = match name.strip_prefix('.') {
            Some(rest) => format!("_{rest}"),
            None => name,
        };
        Path::new(self.definition.kind().as_str()).join(name)
    }
}

/// What came of a text.
#[derive(Debug, Clone, Default)]
pub struct Import {
    /// The definitions.
    pub definitions: Vec<Imported>,
    /// What is wrong, with the text that it is in.
    pub problems: Vec<(Arc<Source>, Diagnostic)>,
}

/// Reads every document of a text and tidies it.
pub fn import(text: &Text, keep: Keep) -> Import {
    let mut import = Import::default();
    let whole = text.text.trim_start_matches('\u{feff}');
    let xml_path = text.path.with_extension("xml");
    for (offset, piece) in xml::documents(whole) {
        let read = |text: &str| {
            let source = Source::new(xml_path.as_path(), text);
            vireo_schema::read(&Arc::new(source))
        };
        let first = read(piece);
        let lines = |until: usize| whole.get(..until).unwrap_or("").matches('\n').count();
        let lines_before = lines(offset);
        let is_record = |located: &Located| located.kind().is_record();
        if !first.is_whole() || first.definitions.iter().any(is_record) {
            // Read once more where it stands, for lines to be counted in the whole text.
            let stated = read(&("\n".repeat(lines_before) + piece));
            let across = vireo_schema::check(std::slice::from_ref(&stated));
            let not_kept = across
                .into_iter()
                .filter(|(_, one)| one.rule == vireo_schema::Rule::NotKept);
            let own = stated.problems.into_iter();
            let own = own.map(|problem| (stated.source.clone(), problem));
            import.problems.extend(own.chain(not_kept));
            continue;
        }
        let Ok(mut tree) = xml::read(piece, 0) else {
            continue;
        };
        let begins = offset + piece.len() - piece.trim_start().len();
        let running = tree.name == "domain" && tree.attribute("id").is_some();
        tidy(&mut tree, keep);
        for located in read(&xml::write(&tree)).definitions {
            let mut policy = located.policy;
            if located.definition.kind() == Kind::Domain && policy.state.is_none() {
                policy.state = state(running, text.autostart);
            }
            import.definitions.push(Imported {
                definition: located.definition,
                policy,
                from: format!("{}:{}", text.path.display(), lines(begins) + 1),
            });
        }
    }
    import
}

/// The state to state: running is what is wanted where nothing is said.
fn state(running: bool, autostart: Option<bool>) -> Option<WantedState> {
    let stopped = !running && autostart == Some(false);
    stopped.then_some(WantedState::Stopped)
}

/// Where libvirt keeps its definitions below its configuration directory, and the links beside them to what starts with the host.
const PLACES: &[(&str, Option<&str>)] = &[
    ("qemu", Some("qemu/autostart")),
    ("qemu/networks", Some("qemu/networks/autostart")),
    ("nwfilter", None),
    ("storage", Some("storage/autostart")),
    ("secrets", None),
];

/// The texts of a file, of libvirt's configuration directory, or of any directory with XML files.
///
/// # Errors
/// When the directory or a file cannot be read.
pub fn texts(path: &Path) -> io::Result<Vec<Text>> {
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![file(path, None)?]);
    }
    let known: Vec<_> = PLACES
        .iter()
        .filter(|(place, _)| path.join(place).is_dir())
        .collect();
    let mut texts = Vec::new();
    for (place, starting) in &known {
        let started = starting.map(|starting| names(&path.join(starting)));
        for one in definitions(&path.join(place))? {
            let name = one.file_name().map(ToOwned::to_owned);
            let autostart = started
                .as_ref()
                .map(|names| name.is_some_and(|name| names.contains(&name)));
            texts.push(file(&one, autostart)?);
        }
    }
    if known.is_empty() {
        for one in definitions(path)? {
            texts.push(file(&one, None)?);
        }
    }
    Ok(texts)
}

fn definitions(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "xml") && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// A directory that is not there starts nothing.
fn names(directory: &Path) -> Vec<std::ffi::OsString> {
    fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name())
        .collect()
}

fn file(path: &Path, autostart: Option<bool>) -> io::Result<Text> {
    let named =
        |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let size = fs::metadata(path).map_err(named)?.len();
    if size > FILE_MAX {
        return Err(named(io::Error::other(format!(
            "is larger than {} MiB",
            FILE_MAX >> 20
        ))));
    }
    Ok(Text {
        path: path.to_owned(),
        autostart,
        text: fs::read_to_string(path).map_err(named)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn imported(text: &str, autostart: Option<bool>) -> Import {
        let text = Text {
            path: "a.xml".into(),
            autostart,
            text: text.to_owned(),
        };
        import(&text, Keep::default())
    }

    #[test]
    fn a_stream_of_documents_gives_each_of_them() {
        let found = imported(
            "<network><name>n</name></network>\n<domain type='kvm'><name>d</name><memory>1</memory></domain>",
            None,
        );
        let places: Vec<PathBuf> = found.definitions.iter().map(Imported::place).collect();
        assert_eq!(places, [PathBuf::from("network/n"), "domain/d".into()]);
        let from: Vec<_> = found.definitions.iter().map(|one| &*one.from).collect();
        assert_eq!(from, ["a.xml:1", "a.xml:2"]);
    }

    #[test]
    fn a_broken_document_is_told_where_it_is_and_hides_no_other() {
        let found = imported(
            "<network><name>n</name></network>\n<network><nmae>m</nmae></network>",
            None,
        );
        assert_eq!(found.definitions.len(), 1);
        let (source, problem) = &found.problems[0];
        assert_eq!(source.position(problem.span.start).line, 2);
    }

    #[test]
    fn what_libvirt_only_notes_is_no_definition_to_import() {
        let found = imported(
            "<network><name>n</name></network>\n<domainsnapshot><name>s</name></domainsnapshot>",
            None,
        );
        assert_eq!(found.definitions.len(), 1);
        let (source, problem) = &found.problems[0];
        assert_eq!(problem.rule, vireo_schema::Rule::NotKept);
        assert_eq!(source.position(problem.span.start).line, 2);
    }

    #[test]
    fn a_guest_that_does_not_start_with_the_host_is_wanted_stopped_unless_it_runs() {
        let text =
            |id: &str| format!("<domain type='kvm'{id}><name>d</name><memory>1</memory></domain>");
        let state = |text: &str, autostart| imported(text, autostart).definitions[0].policy.state;
        assert_eq!(state(&text(""), Some(false)), Some(WantedState::Stopped));
        assert_eq!(state(&text(""), Some(true)), None);
        assert_eq!(state(&text(" id='1'"), Some(false)), None);
        assert_eq!(state(&text(""), None), None);
    }

    #[test]
    fn no_name_leads_out_of_the_directory() {
        let found = imported("<filter name='../../etc/x'/>", None);
        for one in &found.definitions {
            assert_eq!(one.place().components().count(), 2, "{:?}", one.place());
        }
    }

    #[test]
    fn libvirts_directory_is_known_by_its_layout() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        for directory in ["qemu/autostart", "qemu/networks", "nwfilter"] {
            fs::create_dir_all(at(directory)).unwrap();
        }
        fs::write(at("qemu/a.xml"), "<domain/>").unwrap();
        fs::write(at("qemu/b.xml"), "<domain/>").unwrap();
        fs::write(at("qemu/networks/n.xml"), "<network/>").unwrap();
        fs::write(at("nwfilter/f.xml"), "<filter/>").unwrap();
        fs::write(at("libvirtd.conf"), "").unwrap();
        std::os::unix::fs::symlink(at("qemu/b.xml"), at("qemu/autostart/b.xml")).unwrap();
        let starts: Vec<(String, Option<bool>)> = texts(root.path())
            .unwrap()
            .into_iter()
            .map(|text| {
                let name = text
                    .path
                    .file_name()
                    .unwrap()
                    .to_string_lossy()
                    .into_owned();
                (name, text.autostart)
            })
            .collect();
        let expected = [
            ("a.xml", Some(false)),
            ("b.xml", Some(true)),
            ("n.xml", Some(false)),
            ("f.xml", None),
        ];
        assert_eq!(
            starts,
            expected.map(|(name, starts)| (name.to_owned(), starts))
        );
    }
}
