//! Headers of image files: what a guest would see of one, without starting a process a file.
//!
//! In: a file that anybody may have written, a guest too. Out: its format, the size that a guest sees, the image it is a layer over. What can go wrong: the file is not
//! readable, or begins like a qcow2 image and is none; then there is no image. At most a few KiB are read, at places that the header states and that are checked;
//! nothing that it states is allocated.
//!
//! A raw image holds whatever its guest wrote, so it may begin like a qcow2 image. What is found here must therefore agree with a definition before anybody
//! opens the image as what it seems to be.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::inventory::Image;
use crate::resolve::storage::ImageFormat;
use crate::units::Bytes;

/// `QFI\xfb`. Source: qcow2's specification, "Header".
const MAGIC: [u8; 4] = *b"QFI\xfb";
/// The part of the header that versions 2 and 3 share.
const HEADER: usize = 72;
/// The longest name of a backing file that the format allows.
const BACKING_MAX: u32 = 1023;
/// The largest size that we believe: qcow2's own limit is far below 2^62.
const CAPACITY_MAX: u64 = 1 << 62;

/// Reads an open image's header; `path` is where a relative backing file is looked for.
///
/// # Errors
/// The file system's. `None` is a file that claims to be qcow2 and is not.
pub fn read(file: &mut File, path: &Path) -> io::Result<Option<Image>> {
    let size = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(0))?;
    let mut header = Vec::with_capacity(HEADER);
    file.by_ref().take(HEADER as u64).read_to_end(&mut header)?;
    if !header.starts_with(&MAGIC) {
        return Ok(Some(Image {
            format: ImageFormat::Raw,
            capacity: Bytes(size),
            backing: None,
        }));
    }
    qcow2(file, &header, size, path)
}

fn qcow2(file: &File, header: &[u8], size: u64, path: &Path) -> io::Result<Option<Image>> {
    let Some(fields) = Fields::of(header) else {
        return Ok(None);
    };
    let backing = if fields.backing_offset == 0 {
        None
    } else {
        let end = fields
            .backing_offset
            .checked_add(u64::from(fields.backing_length));
        // The name lies in the first cluster, behind the header.
        if fields.backing_length > BACKING_MAX
            || fields.backing_length == 0
            || end.is_none_or(|end| end > size.min(1 << fields.cluster_bits))
        {
            return Ok(None);
        }
        let mut name = vec![0; fields.backing_length as usize];
        file.read_exact_at(&mut name, fields.backing_offset)?;
        Some(absolute(name, path))
    };
    Ok(Some(Image {
        format: ImageFormat::Qcow2,
        capacity: Bytes(fields.capacity),
        backing,
    }))
}

struct Fields {
    backing_offset: u64,
    backing_length: u32,
    cluster_bits: u32,
    capacity: u64,
}

impl Fields {
    fn of(header: &[u8]) -> Option<Self> {
        let u32_at = |at: usize| Some(u32::from_be_bytes(*header.get(at..)?.first_chunk()?));
        let u64_at = |at: usize| Some(u64::from_be_bytes(*header.get(at..)?.first_chunk()?));
        header.get(..HEADER)?;
        let fields = Self {
            backing_offset: u64_at(8)?,
            backing_length: u32_at(16)?,
            cluster_bits: u32_at(20)?,
            capacity: u64_at(24)?,
        };
        let sound = matches!(u32_at(4)?, 2 | 3)
            && (9..=21).contains(&fields.cluster_bits)
            && fields.capacity <= CAPACITY_MAX;
        sound.then_some(fields)
    }
}

/// A backing file's name as a path. A name with a protocol (`nbd://…`, `json:…`) stays as it is.
fn absolute(name: Vec<u8>, image: &Path) -> PathBuf {
    use std::os::unix::ffi::OsStringExt as _;
    let has_protocol = name
        .iter()
        .position(|b| *b == b':')
        .is_some_and(|colon| !name.iter().take(colon).any(|b| *b == b'/'));
    let name = PathBuf::from(std::ffi::OsString::from_vec(name));
    if has_protocol {
        return name;
    }
    image.parent().unwrap_or(Path::new("/")).join(name)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;

    fn read_bytes(bytes: &[u8]) -> Option<Image> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        read(&mut file, Path::new("/pool/image")).unwrap_or(None)
    }

    fn header(backing: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(MAGIC);
        bytes.extend(3u32.to_be_bytes());
        bytes.extend(if backing.is_empty() { 0u64 } else { 104 }.to_be_bytes());
        bytes.extend((backing.len() as u32).to_be_bytes());
        bytes.extend(16u32.to_be_bytes());
        bytes.extend((10u64 << 30).to_be_bytes());
        bytes.resize(104, 0);
        bytes.extend(backing);
        bytes
    }

    #[test]
    fn a_backing_file_is_made_absolute_and_a_protocol_is_kept() {
        for (stated, found) in [
            (&b"base.qcow2"[..], "/pool/base.qcow2"),
            (b"/other/base", "/other/base"),
            (b"nbd://host/x", "nbd://host/x"),
            (b"./a:b", "/pool/./a:b"),
        ] {
            let image = read_bytes(&header(stated)).unwrap();
            assert_eq!(image.backing.as_deref(), Some(Path::new(found)));
            assert_eq!(image.capacity, Bytes::gib(10));
        }
    }

    #[test]
    fn what_is_not_qcow2_is_raw_and_what_only_claims_to_be_is_nothing() {
        assert_eq!(read_bytes(b"").unwrap().format, ImageFormat::Raw);
        assert_eq!(read_bytes(&[0; 4096]).unwrap().capacity, Bytes::kib(4));
        assert_eq!(read_bytes(b"QFI\xfb"), None, "cut short");
        let mut unknown = header(b"");
        unknown[7] = 9;
        assert_eq!(read_bytes(&unknown), None, "version 9");
        let mut far = header(b"x");
        far[8] = 0xff;
        assert_eq!(read_bytes(&far), None, "a name beyond the file");
    }

    proptest! {
        #[test]
        fn no_header_is_ever_too_much(mut bytes in prop::collection::vec(any::<u8>(), 0..300), claim in any::<bool>()) {
            if claim && bytes.len() > 8 {
                bytes[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
            }
            let _ = read_bytes(&bytes);
        }
    }

    #[test]
    fn what_qemu_img_makes_is_read_as_it_was_stated() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("layer");
        let base = folder.path().join("base");
        for arguments in [
            vec!["create", "-q", "-f", "qcow2", base.to_str().unwrap(), "3G"],
            vec![
                "create",
                "-q",
                "-f",
                "qcow2",
                "-b",
                "base",
                "-F",
                "qcow2",
                path.to_str().unwrap(),
            ],
        ] {
            match std::process::Command::new("qemu-img")
                .args(&arguments)
                .status()
            {
                Ok(status) => assert!(status.success()),
                Err(error) => {
                    eprintln!("skipped: qemu-img: {error}");
                    return;
                }
            }
        }
        let image = read(&mut File::open(&path).unwrap(), &path)
            .unwrap()
            .unwrap();
        assert_eq!(image.format, ImageFormat::Qcow2);
        assert_eq!(image.capacity, Bytes::gib(3));
        assert_eq!(image.backing, Some(base));
    }
}
