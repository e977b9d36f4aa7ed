//! Making taps: the one thing about links that the kernel offers through `/dev/net/tun` only.
//!
//! A tap that nobody has made persistent goes away with the descriptor that made it. That is what makes its making safe to interrupt: it is marked while
//! the descriptor is held, and made persistent last.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;

/// Source: linux/if_tun.h.
const IFF_TAP: i16 = 0x0002;
const IFF_NO_PI: i16 = 0x1000;
const IFF_VNET_HDR: i16 = 0x4000;
const IFF_MULTI_QUEUE: i16 = 0x0100;
const IFF_TUN_EXCL: i16 = i16::MIN;
const TUNSETIFF: rustix::ioctl::Opcode = 0x4004_54ca;
const TUNSETVNETHDRSZ: rustix::ioctl::Opcode = 0x4004_54d8;
const TUNSETPERSIST: rustix::ioctl::Opcode = 0x4004_54cb;

/// `struct ifreq` with the flags member of its union in use.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; 16],
    flags: i16,
    rest: [u8; 22],
}

/// A tap that lasts as long as this value, until it is made to stay.
pub struct NewTap(File);

impl NewTap {
    /// Makes a tap; one that already exists is an error. The name has been checked: 1 to 15 bytes.
    ///
    /// # Errors
    /// `/dev/net/tun` is missing, no permission, the name is taken.
    pub fn create(name: &str, multi_queue: bool) -> io::Result<Self> {
        let device = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(rustix::fs::OFlags::CLOEXEC.bits().cast_signed())
            .open("/dev/net/tun")?;
        let mut request = InterfaceRequest {
            name: [0; 16],
            flags: IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_TUN_EXCL,
            rest: [0; 22],
        };
        if multi_queue {
            request.flags |= IFF_MULTI_QUEUE;
        }
        for (to, from) in request.name.iter_mut().take(15).zip(name.bytes()) {
            *to = from;
        }
        set_interface(&device, &mut request)?;
        Ok(Self(device))
    }

    /// Lets the tap outlive this process.
    ///
    /// # Errors
    /// The kernel's.
    pub fn persist(self) -> io::Result<()> {
        // SAFETY: TUNSETPERSIST takes its argument as a plain number and touches no memory of ours.
        unsafe {
            let persist = rustix::ioctl::IntegerSetter::<TUNSETPERSIST>::new_usize(1);
            rustix::ioctl::ioctl(&self.0, persist)?;
        }
        Ok(())
    }
}

/// How a descriptor is attached to a tap that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attachment {
    /// The tap has several queues.
    pub multi_queue: bool,
    /// Length of the header before each frame, in bytes: 10, or 12 for whoever merges buffers. Source: virtio 1.2, 5.1.6.
    pub header: i32,
}

/// Attaches a descriptor of `/dev/net/tun` that has no link to an existing tap. Offloads begin turned off.
///
/// # Errors
/// The kernel's: the descriptor is attached, the tap is absent or of another kind.
pub fn attach(device: &File, name: &str, attachment: Attachment) -> io::Result<()> {
    let mut request = InterfaceRequest {
        name: [0; 16],
        flags: IFF_TAP | IFF_NO_PI | IFF_VNET_HDR,
        rest: [0; 22],
    };
    if attachment.multi_queue {
        request.flags |= IFF_MULTI_QUEUE;
    }
    for (to, from) in request.name.iter_mut().take(15).zip(name.bytes()) {
        *to = from;
    }
    set_interface(device, &mut request)?;
    // SAFETY: TUNSETVNETHDRSZ reads one int, which `Setter` holds through the call.
    unsafe {
        let header = rustix::ioctl::Setter::<TUNSETVNETHDRSZ, i32>::new(attachment.header);
        rustix::ioctl::ioctl(device, header)?;
    }
    Ok(())
}

fn set_interface(device: &File, request: &mut InterfaceRequest) -> io::Result<()> {
    // SAFETY: TUNSETIFF reads and writes one `struct ifreq`, which is 40 bytes; `InterfaceRequest` is that, and lives through the call.
    unsafe {
        let update = rustix::ioctl::Updater::<TUNSETIFF, InterfaceRequest>::new(request);
        rustix::ioctl::ioctl(device, update)?;
    }
    Ok(())
}

const _: () = assert!(size_of::<InterfaceRequest>() == 40);
