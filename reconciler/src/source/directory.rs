//! Directories of definitions: every `.xml`, `.yaml` and `.yml` file below the given roots.
//!
//! Hidden files and directories (`.git`, editors' backups) are passed over. A symbolic link is followed only to what lies below its own root. A file that cannot be
//! read, is not text or is too large becomes a document with a problem, so that it holds its objects; a directory that cannot be read is an error of the whole.
//! Files are read again only when their size, time or inode has changed.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rayon::prelude::*;
use vireo_schema::Document;

use super::{Source, SourceError};

/// How deep directories may be nested below a root.
const DEPTH_MAX: usize = 32;

/// How many definition files one set of roots may hold.
const FILES_MAX: usize = 200_000;

/// The largest definition file, in bytes.
const FILE_MAX: u64 = 16 << 20;

/// What tells a changed file from an unchanged one: device, inode, size, and the times of the last change of content and of inode, in seconds and nanoseconds.
type Stamp = (u64, u64, u64, (i64, i64), (i64, i64));

/// The definitions below some directories.
#[derive(Debug)]
pub struct Directories {
    roots: Vec<PathBuf>,
    seen: Mutex<BTreeMap<PathBuf, (Stamp, Arc<Document>)>>,
}

impl Directories {
    /// The definitions below these roots. A root may also be a single file. Nothing is read yet.
    pub fn new(roots: Vec<PathBuf>) -> Self {
        Self {
            roots,
            seen: Mutex::default(),
        }
    }

    /// The roots.
    pub fn roots(&self) -> &[PathBuf] {
        &self.roots
    }

    /// Reads everything, in order of path.
    ///
    /// # Errors
    /// As [`Source::load`].
    pub fn read(&self) -> Result<Vec<Arc<Document>>, SourceError> {
        let mut files = BTreeMap::new();
        for root in &self.roots {
            let metadata = fs::metadata(root).map_err(io_error(root))?;
            if metadata.is_file() {
                files.insert(root.clone(), metadata);
            } else {
                let real = root.canonicalize().map_err(io_error(root))?;
                find(root, &real, 0, &mut files)?;
            }
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let seen_before = &*seen;
        let current: Vec<(PathBuf, (Stamp, Arc<Document>))> = files
            .into_par_iter()
            .map(|(path, metadata)| {
                let stamp = stamp(&metadata);
                let document = match seen_before.get(&path) {
                    Some((before, document)) if *before == stamp => document.clone(),
                    _ if metadata.is_symlink() => {
                        let why = "is a symbolic link that leads nowhere, or out of the watched directory";
                        Arc::new(Document::unreadable(&path, why))
                    }
                    _ => Arc::new(read_file(&path)),
                };
                (path, (stamp, document))
            })
            .collect();
        *seen = current.into_iter().collect();
        Ok(seen
            .values()
            .map(|(_, document)| document.clone())
            .collect())
    }
}

impl Source for Directories {
    async fn load(&self) -> Result<Vec<Arc<Document>>, SourceError> {
        self.read()
    }
}

fn stamp(metadata: &fs::Metadata) -> Stamp {
    (
        metadata.dev(),
        metadata.ino(),
        metadata.size(),
        (metadata.mtime(), metadata.mtime_nsec()),
        (metadata.ctime(), metadata.ctime_nsec()),
    )
}

/// Whether a file of this name is a definition.
fn is_definition(path: &Path) -> bool {
    path.extension().is_some_and(|extension| {
        ["xml", "yaml", "yml"]
            .iter()
            .any(|known| extension == *known)
    })
}

fn find(
    directory: &Path,
    root: &Path,
    depth: usize,
    files: &mut BTreeMap<PathBuf, fs::Metadata>,
) -> Result<(), SourceError> {
    if depth > DEPTH_MAX {
        return Err(bounds(
            directory,
            format!("is nested more than {DEPTH_MAX} directories deep"),
        ));
    }
    for item in fs::read_dir(directory).map_err(io_error(directory))? {
        let item = item.map_err(io_error(directory))?;
        if item.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = item.path();
        let Some(metadata) = metadata_within(&path, root).map_err(io_error(&path))? else {
            continue;
        };
        if metadata.is_dir() {
            find(&path, root, depth + 1, files)?;
        } else if is_definition(&path) {
            files.insert(path, metadata);
        }
        if files.len() > FILES_MAX {
            return Err(bounds(
                root,
                format!("holds more than {FILES_MAX} definition files"),
            ));
        }
    }
    Ok(())
}

/// The metadata of what a path leads to. A link to elsewhere or nowhere stays a link, which is told as a problem; a file that went away meanwhile is none.
fn metadata_within(path: &Path, root: &Path) -> io::Result<Option<fs::Metadata>> {
    let own = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        own => own?,
    };
    if own.is_symlink()
        && path
            .canonicalize()
            .is_ok_and(|target| target.starts_with(root))
    {
        return fs::metadata(path).map(Some);
    }
    Ok(Some(own))
}

/// The definitions of the file at a path, or of the pipe (`<(virsh dumpxml web)`); none where it leads to a directory, or to something else.
///
/// # Errors
/// It leads to nothing.
pub fn file_at(path: &Path) -> Result<Option<Document>, SourceError> {
    let text = open(path).and_then(|(file, metadata)| match metadata.file_type() {
        kind if kind.is_file() => text(file, metadata.len()).map(Some),
        kind if kind.is_fifo() => piped(file).map(Some),
        _ => Ok(None),
    });
    match text {
        Ok(text) => Ok(text.map(|text| document(path, text))),
        Err(error) => {
            fs::metadata(path).map_err(io_error(path))?;
            Ok(Some(Document::unreadable(path, &error.to_string())))
        }
    }
}

fn read_file(path: &Path) -> Document {
    let text = open(path).and_then(|(file, metadata)| match metadata.is_file() {
        true => text(file, metadata.len()),
        false => Err(invalid("is not a regular file".to_owned())),
    });
    match text {
        Ok(text) => document(path, text),
        Err(error) => Document::unreadable(path, &error.to_string()),
    }
}

fn document(path: &Path, text: String) -> Document {
    vireo_schema::read(&Arc::new(vireo_schema::Source::new(path, text)))
}

fn open(path: &Path) -> io::Result<(fs::File, fs::Metadata)> {
    use rustix::fs::{Mode, OFlags};
    // Not blocking: a FIFO in the directory must not stop the agent.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = fs::File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let metadata = file.metadata()?;
    Ok((file, metadata))
}

/// The text of a file of so many bytes. What is added from now on is a change, and read as one.
fn text(file: fs::File, size: u64) -> io::Result<String> {
    if size > FILE_MAX {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    file.take(size).read_to_end(&mut bytes)?;
    utf8(bytes)
}

/// All that comes through a pipe, which was opened without waiting for who writes. Polling waits: also where nobody has written yet, and until the last has closed it.
/// Source: pipe_poll in the kernel's fs/pipe.c.
fn piped(mut file: fs::File) -> io::Result<String> {
    use rustix::event::{PollFd, PollFlags, poll};
    let mut bytes = Vec::new();
    let mut piece = vec![0; 1 << 16];
    while bytes.len() as u64 <= FILE_MAX {
        match poll(&mut [PollFd::new(&file, PollFlags::IN)], None) {
            Err(rustix::io::Errno::INTR) => continue,
            polled => polled?,
        };
        match file.read(&mut piece) {
            Ok(0) => return utf8(bytes),
            Ok(count) => bytes.extend(piece.iter().take(count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Err(too_large())
}

/// All that can be read, as text of at most the size of a definition file; what is beyond that stays unread.
///
/// # Errors
/// It cannot be read, is larger, or is not UTF-8 text.
pub fn text_from(input: impl io::Read) -> io::Result<String> {
    let mut bytes = Vec::new();
    input.take(FILE_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(too_large());
    }
    utf8(bytes)
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn too_large() -> io::Error {
    invalid(format!(
        "is larger than {} MiB: split it into smaller files",
        FILE_MAX >> 20
    ))
}

fn utf8(bytes: Vec<u8>) -> io::Result<String> {
    String::from_utf8(bytes).map_err(|error| {
        let byte = error.utf8_error().valid_up_to() + 1;
        invalid(format!("is not UTF-8 text: byte {byte} cannot stand there"))
    })
}

fn bounds(path: &Path, what: String) -> SourceError {
    SourceError::Bounds {
        path: path.to_owned(),
        what,
    }
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> SourceError + use<> {
    let path = path.to_owned();
    move |source| SourceError::Io { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(documents: &[Arc<Document>]) -> Vec<String> {
        let name = |document: &Arc<Document>| {
            let name = document.source.path.file_name().unwrap_or_default();
            name.to_string_lossy().into_owned()
        };
        documents.iter().map(name).collect()
    }

    #[test]
    fn definitions_are_found_below_and_everything_else_is_passed_over() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("guests/.git")).unwrap();
        for name in [
            "a.xml",
            "guests/b.yaml",
            "guests/.git/c.xml",
            ".d.xml",
            "README.md",
            "e.xml~",
        ] {
            fs::write(root.path().join(name), "").unwrap();
        }
        let documents = Directories::new(vec![root.path().to_owned()])
            .read()
            .unwrap();
        assert_eq!(names(&documents), ["a.xml", "b.yaml"]);
    }

    #[test]
    fn a_missing_directory_is_an_error_and_not_an_empty_one() {
        let missing = Directories::new(vec![PathBuf::from("/nonexistent/desired")]);
        assert!(matches!(missing.read(), Err(SourceError::Io { .. })));
    }

    #[test]
    fn an_unchanged_file_is_not_read_again() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("a.xml"), "<x/>").unwrap();
        fs::write(root.path().join("b.xml"), "<x/>").unwrap();
        let directories = Directories::new(vec![root.path().to_owned()]);
        let first = directories.read().unwrap();
        fs::write(root.path().join("b.xml"), "<longer/>").unwrap();
        let second = directories.read().unwrap();
        assert!(Arc::ptr_eq(&first[0], &second[0]));
        assert!(!Arc::ptr_eq(&first[1], &second[1]));
    }

    #[test]
    fn what_cannot_be_read_is_a_document_with_a_problem() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("binary.xml"), [0xff, 0xfe, 0]).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", root.path().join("link.xml")).unwrap();
        let documents = Directories::new(vec![root.path().to_owned()])
            .read()
            .unwrap();
        assert_eq!(documents.len(), 2);
        assert!(
            documents
                .iter()
                .all(|document| !document.problems.is_empty())
        );
        assert!(
            documents
                .iter()
                .all(|document| document.definitions.is_empty())
        );
    }
}
