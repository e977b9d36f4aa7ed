//! A disk image as a flat run of bytes, whatever its format.
//!
//! In come positions and lists of memory; out go accesses of a raw file or of a qcow2 file and the chain of files behind it. The formats
//! are imago's, in its blocking form; but what a file's format is, is never guessed, also where an overlay does not say it of the file behind it. Errors are the file's, or say that the image is damaged.

use std::cell::RefCell;
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use imago::file::File;
use imago::format::drivers::FormatDriverInstance;
use imago::format::gate::ImplicitOpenGate;
use imago::format::{Format, PreallocateMode};
use imago::io_buffers::{IoVector, IoVectorMut};
use imago::qcow2::Qcow2;
use imago::raw::Raw;
use imago::{FormatAccess, FormatDriverBuilder, Storage, StorageOpenOptions};
use thiserror::Error;

use super::super::ring::Slice;
use super::lock::{Lock, Usage};
use crate::config::DiskFormat;

/// Files behind one image at most. A chain that leads back to itself ends here instead of in an endless recursion.
const MOST_BACKING: u32 = 32;

/// Why an image was not opened.
#[derive(Debug, Error)]
#[error("could not open disk image {path} as {format:?}")]
pub struct OpenError {
    /// The image.
    pub path: PathBuf,
    /// The format it was opened as.
    pub format: DiskFormat,
    /// What went wrong.
    pub source: io::Error,
}

/// An open image.
#[derive(Debug)]
pub struct Image {
    access: FormatAccess<File>,
    format: DiskFormat,
    /// On the image and on every file behind it, in this order.
    locks: Vec<Lock>,
    /// The image, where it is a block device and raw: it is as long as others make it.
    device: Option<std::fs::File>,
    readonly: bool,
}

impl Image {
    /// Opens the image at `path` and locks it; `direct` goes past the host's page cache.
    pub fn open(
        path: &Path,
        format: DiskFormat,
        readonly: bool,
        shareable: bool,
        direct: bool,
    ) -> Result<Self, OpenError> {
        let options = StorageOpenOptions::new().direct(direct);
        let locks = Rc::default();
        let gate = Backing {
            left: MOST_BACKING,
            own: Some(Usage::of_disk(readonly, shareable)),
            locks: Rc::clone(&locks),
        };
        let opened = match format {
            DiskFormat::Raw => access(Raw::<File>::builder_path(path), options, readonly, gate),
            DiskFormat::Qcow2 => stated_backing(path)
                .and_then(|()| access(Qcow2::<File>::builder_path(path), options, readonly, gate)),
        };
        let opened = opened.and_then(|access| {
            let device = match format {
                DiskFormat::Raw => block_device(path, readonly, direct)?,
                DiskFormat::Qcow2 => None,
            };
            Ok((access, device))
        });
        match opened {
            Ok((access, device)) => Ok(Self {
                access,
                format,
                locks: locks.take(),
                device,
                readonly,
            }),
            Err(source) => Err(OpenError {
                path: path.to_owned(),
                format,
                source,
            }),
        }
    }

    /// Length of the disk in bytes.
    #[expect(
        clippy::len_without_is_empty,
        reason = "a disk's length, not a collection's"
    )]
    pub fn len(&self) -> u64 {
        self.access.size()
    }

    /// Makes the disk at least `len` bytes long, with zeroes. What is raw and was made longer by somebody else is taken as it is: nothing is ever cut off. A block device is
    /// for others to make longer, and has to be by now.
    pub fn grow(&mut self, len: u64) -> io::Result<()> {
        if let Some(mut device) = self.device.as_ref() {
            let is = io::Seek::seek(&mut device, io::SeekFrom::End(0))?;
            if is < len {
                let what = format!("the block device has {is} bytes: make it larger first");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
            }
            let file = File::try_from(device.try_clone()?)?;
            let raw = Raw::open_image(file, !self.readonly)?;
            self.access = FormatAccess::new(raw);
            return Ok(());
        }
        let is = match (self.format, self.locks.first()) {
            (DiskFormat::Raw, Some(lock)) => lock.len()?,
            _ => self.len(),
        };
        // Below what is new there may be something in a file behind this one, which would show through.
        let new = match self.locks.len() {
            0 | 1 => PreallocateMode::None,
            _ => PreallocateMode::Zero,
        };
        self.access.resize_grow(len.max(is), new)
    }

    /// Fills `to` from position `at`.
    pub fn read(&self, at: u64, to: &[Slice<'_>]) -> io::Result<()> {
        let (vector, _guard) = IoVectorMut::from_volatile_slice(to);
        self.access.readv(vector, at)
    }

    /// Writes `from` to position `at`.
    pub fn write(&self, at: u64, from: &[Slice<'_>]) -> io::Result<()> {
        let (vector, _guard) = IoVector::from_volatile_slice(from);
        self.access.writev(vector, at)
    }

    /// Puts everything that was written on the disk.
    pub fn flush(&self) -> io::Result<()> {
        self.access.flush()?;
        self.access.sync()
    }

    /// Gives the space of `len` bytes at `at` back, where the file can; what is there afterwards is not defined.
    pub fn discard(&mut self, at: u64, len: u64) -> io::Result<()> {
        match self.access.discard_to_any(at, len) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
            done => done,
        }
    }

    /// Makes `len` bytes at `at` read as zero, giving their space back if `unmap` says so and the file can.
    pub fn write_zeroes(&mut self, at: u64, len: u64, unmap: bool) -> io::Result<()> {
        if unmap && self.access.discard_to_zero(at, len).is_ok() {
            return Ok(());
        }
        self.access.write_zeroes(at, len)
    }
}

/// The file at `path` once more if it is a block device. It is opened here, as the sandbox opens nothing.
fn block_device(path: &Path, readonly: bool, direct: bool) -> io::Result<Option<std::fs::File>> {
    if !std::fs::metadata(path)?.file_type().is_block_device() {
        return Ok(None);
    }
    let mut options = std::fs::File::options();
    options.read(true).write(!readonly);
    if direct {
        options.custom_flags(libc::O_DIRECT);
    }
    options.open(path).map(Some)
}

fn access<B>(
    builder: B,
    options: StorageOpenOptions,
    readonly: bool,
    gate: Backing,
) -> io::Result<FormatAccess<File>>
where
    B: FormatDriverBuilder<File>,
    B::Format: FormatDriverInstance<Storage = File> + 'static,
{
    builder
        .storage_open_options(options)
        .write(!readonly)
        .open(gate)
        .map(FormatAccess::new)
}

/// Refuses an overlay that does not state its backing file's format: a guest that once wrote the file raw could have written any format's header there, and so
/// choose which file of the host is opened next.
fn stated_backing(path: &Path) -> io::Result<()> {
    let overlay = Qcow2::<File>::open_path(path, false)?;
    match (
        overlay.implicit_backing_file(),
        overlay.implicit_backing_format(),
    ) {
        (Some(backing), None) => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "{} does not state the format of its backing file {backing:?}; state it with `qemu-img rebase -u -b FILE -F FORMAT`",
                path.display()
            ),
        )),
        _ => Ok(()),
    }
}

/// Opens an image's own file and those that it refers to, but not without end, and locks them.
struct Backing {
    left: u32,
    /// How the image's own file is used, which is the first to be opened.
    own: Option<Usage>,
    locks: Rc<RefCell<Vec<Lock>>>,
}

impl ImplicitOpenGate<File> for Backing {
    fn open_format<F: FormatDriverBuilder<File>>(
        &mut self,
        builder: F,
    ) -> io::Result<FormatAccess<File>> {
        let left = self.left.checked_sub(1).ok_or_else(|| {
            io::Error::other(format!(
                "more than {MOST_BACKING} backing files, or one that leads back to itself"
            ))
        })?;
        if F::FORMAT == Format::Qcow2
            && let Some(path) = builder.get_image_path()
        {
            stated_backing(&path)?;
        }
        let locks = Rc::clone(&self.locks);
        let gate = Backing {
            left,
            own: None,
            locks,
        };
        builder.open(gate).map(FormatAccess::new)
    }

    fn open_storage(&mut self, options: StorageOpenOptions) -> io::Result<File> {
        if let Some(path) = options.get_filename() {
            let usage = match (self.own.take(), options.get_writable()) {
                (Some(own), _) => own,
                (None, true) => Usage::Writes,
                (None, false) => Usage::Relies,
            };
            let lock = Lock::take(path, usage)?;
            self.locks.borrow_mut().push(lock);
        }
        File::open(options)
    }
}
