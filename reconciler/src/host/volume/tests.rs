use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use uuid::Uuid;

use super::*;
use crate::resolve::storage::{Backing, Permissions};

fn volume(folder: &Path, name: &str, format: ImageFormat, capacity: Option<Bytes>) -> Volume {
    Volume {
        uuid: Uuid::from_u128(3),
        pool: "images".to_owned(),
        pool_uuid: Uuid::from_u128(4),
        name: name.to_owned(),
        path: folder.join(name),
        capacity,
        allocation: None,
        format,
        backing: None,
        compat: None,
        permissions: Permissions::default(),
        delete_with_definition: false,
    }
}

fn has_qemu_img() -> bool {
    let found = command::find_tool("qemu-img").is_some();
    if !found {
        eprintln!("skipped: no qemu-img");
    }
    found
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn image(path: &Path) -> Image {
    image::read(&mut File::open(path).unwrap(), path)
        .unwrap()
        .unwrap()
}

#[tokio::test]
async fn a_raw_volume_is_fully_allocated_unless_stated() {
    let folder = tempfile::tempdir().unwrap();
    let mut full = volume(folder.path(), "full", ImageFormat::Raw, Some(Bytes::mib(8)));
    full.permissions.mode = Some(0o640);
    create(&full).await.unwrap();
    let found = full.path.metadata().unwrap();
    assert_eq!(found.len(), 8 << 20);
    assert!(found.blocks() * 512 >= 8 << 20, "{} blocks", found.blocks());
    assert_eq!(found.permissions().mode() & 0o7777, 0o640);

    let mut thin = volume(folder.path(), "thin", ImageFormat::Raw, Some(Bytes::mib(8)));
    thin.allocation = Some(Bytes(0));
    create(&thin).await.unwrap();
    let found = thin.path.metadata().unwrap();
    assert_eq!((found.len(), found.blocks()), (8 << 20, 0));
    assert_eq!(
        found.permissions().mode() & 0o7777,
        0o600,
        "nobody else's business"
    );
    assert_eq!(
        names(folder.path()),
        ["full", "thin"],
        "nothing is left over"
    );
}

#[tokio::test]
async fn a_layer_takes_its_size_from_what_it_is_over() {
    if !has_qemu_img() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let base = volume(
        folder.path(),
        "base, with comma",
        ImageFormat::Qcow2,
        Some(Bytes::gib(3)),
    );
    create(&base).await.unwrap();
    let mut layer = volume(folder.path(), "layer:x", ImageFormat::Qcow2, None);
    layer.backing = Some(Backing {
        path: base.path.clone(),
        format: ImageFormat::Qcow2,
    });
    layer.compat = Some("0.10".to_owned());
    create(&layer).await.unwrap();
    let found = image(&layer.path);
    assert_eq!(
        (found.capacity, found.backing),
        (Bytes::gib(3), Some(base.path))
    );
    create(&layer).await.unwrap();
    layer.backing = Some(Backing {
        path: folder.path().join("absent"),
        format: ImageFormat::Raw,
    });
    layer.name = "other".to_owned();
    layer.path = folder.path().join("other");
    let error = create(&layer).await.unwrap_err();
    assert!(error.message.contains("absent"), "{error}");
    assert_eq!(names(folder.path()), ["base, with comma", "layer:x"]);
}

#[tokio::test]
async fn an_existing_file_is_never_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let raw = volume(folder.path(), "disk", ImageFormat::Raw, Some(Bytes::kib(4)));
    std::fs::write(&raw.path, "somebody's data").unwrap();
    let error = create(&raw).await.unwrap_err();
    assert!(!error.retry && error.help.is_some());
    assert_eq!(std::fs::read(&raw.path).unwrap(), b"somebody's data");
    std::fs::remove_file(&raw.path).unwrap();
    // Nor is one that a link leads to.
    let outside = tempfile::NamedTempFile::new().unwrap();
    std::os::unix::fs::symlink(outside.path(), &raw.path).unwrap();
    assert!(create(&raw).await.is_err());
    assert!(delete(&raw.path).is_err());
    assert_eq!(outside.path().metadata().unwrap().len(), 0);
}

#[tokio::test]
async fn what_an_interrupted_making_left_is_cleared_away() {
    let folder = tempfile::tempdir().unwrap();
    let raw = volume(folder.path(), "disk", ImageFormat::Raw, Some(Bytes::kib(4)));
    let left = folder.path().join(format!(".vireo-{}.new", raw.uuid));
    std::fs::write(&left, "half").unwrap();
    create(&raw).await.unwrap();
    create(&raw).await.unwrap();
    assert_eq!(names(folder.path()), ["disk"]);
}

#[tokio::test]
async fn a_name_never_leaves_its_pool() {
    let folder = tempfile::tempdir().unwrap();
    let pool = folder.path().join("pool");
    std::fs::create_dir(&pool).unwrap();
    for name in ["../escape", "a/b", "..", "."] {
        let raw = volume(&pool, name, ImageFormat::Raw, Some(Bytes::kib(4)));
        assert!(create(&raw).await.is_err(), "{name}");
    }
    assert!(delete(&pool.join("../escape")).is_err());
    assert_eq!(names(folder.path()), ["pool"]);
}

#[tokio::test]
async fn an_image_grows_and_never_shrinks() {
    let folder = tempfile::tempdir().unwrap();
    let formats = if has_qemu_img() {
        &[ImageFormat::Raw, ImageFormat::Qcow2][..]
    } else {
        &[ImageFormat::Raw][..]
    };
    for &format in formats {
        let disk = volume(
            folder.path(),
            &format.to_string(),
            format,
            Some(Bytes::mib(1)),
        );
        create(&disk).await.unwrap();
        for _ in 0..2 {
            grow(&disk.path, Bytes::mib(4)).await.unwrap();
            assert_eq!(image(&disk.path).capacity, Bytes::mib(4));
        }
        assert!(!grow(&disk.path, Bytes::mib(2)).await.unwrap_err().retry);
        assert_eq!(image(&disk.path).capacity, Bytes::mib(4));
        for _ in 0..2 {
            delete(&disk.path).unwrap();
        }
        assert!(!disk.path.exists());
    }
}
