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
use imago::{FormatAccess, FormatDriverBuilder, Mapping, Storage, StorageOpenOptions};
use thiserror::Error;
use vm_memory::GuestMemoryMmap;

use super::super::ring::{Buffers, Slice};
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

/// Where some of a disk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Number of the file, as in [`Image::files`].
    pub file: u32,
    /// The first byte in it.
    pub at: u64,
}

/// A file of an image.
#[derive(Debug)]
struct Layer {
    path: PathBuf,
    writable: bool,
    lock: Lock,
}

/// An open image.
#[derive(Debug)]
pub struct Image {
    access: FormatAccess<File>,
    format: DiskFormat,
    /// The image's own file first, then those that it refers to.
    layers: Vec<Layer>,
    /// The image, where it is a block device and raw: it is as long as others make it.
    device: Option<std::fs::File>,
    readonly: bool,
    /// Its files are accessed past the host's page cache.
    direct: bool,
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
        let layers = Rc::default();
        let gate = Backing {
            left: MOST_BACKING,
            own: Some(Usage::of_disk(readonly, shareable)),
            layers: Rc::clone(&layers),
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
                layers: layers.take(),
                device,
                readonly,
                direct,
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

    /// The image's files once more, in the order of [`Place::file`], for whoever accesses them past this.
    ///
    /// # Errors
    /// One cannot be opened, or is another file than it was.
    pub fn files(&self) -> io::Result<Vec<std::fs::File>> {
        let open = |layer: &Layer| {
            let mut options = std::fs::File::options();
            options.read(true).write(layer.writable);
            if self.direct {
                options.custom_flags(libc::O_DIRECT);
            }
            let file = options.open(&layer.path)?;
            match layer.lock.is_on(&file)? {
                true => Ok(file),
                false => Err(io::Error::other(format!(
                    "{} was exchanged while it was opened",
                    layer.path.display()
                ))),
            }
        };
        self.layers.iter().map(open).collect()
    }

    /// Where `len` bytes from `at` are, if they are in one piece of one file as they are, and may be written there if `write` says so. It stays so until one of the image's other
    /// functions that change it is called.
    pub fn place(&self, at: u64, len: u64, write: bool) -> Option<Place> {
        if self.format == DiskFormat::Raw {
            return Some(Place { file: 0, at });
        }
        let (mapping, mapped) = self.access.get_mapping(at, len).ok()?;
        let Mapping::Raw {
            storage,
            offset,
            writable,
            ..
        } = mapping
        else {
            return None;
        };
        if mapped < len || (write && !writable) {
            return None;
        }
        let path = storage.get_filename()?;
        let is_it = |layer: &Layer| layer.path == path && (layer.writable || !write);
        let file = self.layers.iter().position(is_it)?;
        Some(Place {
            file: u32::try_from(file).ok()?,
            at: offset,
        })
    }

    /// Whether `buffers`, at `at` of a file, can be accessed as they are.
    pub fn is_aligned(&self, at: u64, buffers: &Buffers, memory: &GuestMemoryMmap) -> bool {
        if !self.direct {
            return true;
        }
        let (file, memory_too) = (self.access.req_align(), self.access.mem_align());
        at.is_multiple_of(file as u64)
            && buffers.slices(memory).iter().all(|slice| {
                let address = slice.ptr_guard().as_ptr().addr();
                address.is_multiple_of(memory_too) && slice.len().is_multiple_of(file)
            })
    }

    /// Whether flushing is a matter of the image's own file alone.
    pub fn is_flushed_by_its_file(&self) -> bool {
        self.format == DiskFormat::Raw
    }

    /// Whether what is discarded can be used for something else next.
    pub fn reuses_space(&self) -> bool {
        self.format != DiskFormat::Raw
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
        let is = match (self.format, self.layers.first()) {
            (DiskFormat::Raw, Some(layer)) => layer.lock.len()?,
            _ => self.len(),
        };
        // Below what is new there may be something in a file behind this one, which would show through.
        let new = match self.layers.len() {
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

/// Whether the file's file system can say that it would have to wait (`RWF_NOWAIT`, preadv2(2)). Where not, the kernel has a thread of its own make each access that is
/// to leave the caller's alone.
pub(super) fn knows_nowait(file: &std::fs::File) -> bool {
    let mut byte = [0];
    let to = &mut [io::IoSliceMut::new(&mut byte)];
    match rustix::io::preadv2(file, to, 0, rustix::io::ReadWriteFlags::NOWAIT) {
        Ok(_) => true,
        Err(error) => error == rustix::io::Errno::AGAIN,
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
    layers: Rc<RefCell<Vec<Layer>>>,
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
        let layers = Rc::clone(&self.layers);
        let gate = Backing {
            left,
            own: None,
            layers,
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
            self.layers.borrow_mut().push(Layer {
                path: path.to_owned(),
                writable: options.get_writable(),
                lock: Lock::take(path, usage)?,
            });
        }
        File::open(options)
    }
}
