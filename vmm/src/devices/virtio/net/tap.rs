//! A tap device of the host, or a macvtap.
//!
//! In comes its name, out goes a [`Port`](super::Port) that reads and writes frames with virtio's header. The tap is made if it is absent;
//! otherwise it must be a tap, not in use, and ours to open, or a macvtap, which has a file of its own. Source: the kernel's drivers/net/tun.c, drivers/net/tap.c.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use thiserror::Error;

use super::{HEADER, Offload, Port};

/// Why a tap could not be used.
#[derive(Debug, Error)]
#[error("could not {what} tap {tap}")]
pub struct TapError {
    /// Its name.
    pub tap: String,
    /// What was tried.
    pub what: &'static str,
    /// The kernel's answer.
    pub source: io::Error,
}

/// An open tap, or a queue of one that has several.
#[derive(Debug)]
pub struct Tap(File);

impl Tap {
    /// Attaches to the tap `name`, which is one of several queues or not.
    pub fn open(name: &str, multi_queue: bool) -> Result<Self, TapError> {
        let failed = |what| {
            move |source| TapError {
                tap: name.to_owned(),
                what,
                source,
            }
        };
        let file = File::options()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open(device_of(name).as_deref().unwrap_or("/dev/net/tun"))
            .map_err(failed("open the device of"))?;
        attach(&file, name, multi_queue).map_err(failed("attach to"))?;
        Ok(Self(file))
    }
}

/// The file of a macvtap; none for what is something else, or absent.
fn device_of(name: &str) -> Option<String> {
    let link = Path::new("/sys/class/net").join(name);
    let index = fs::read_to_string(link.join("ifindex")).ok()?;
    let file = format!("tap{}", index.trim());
    link.join(&file).exists().then(|| format!("/dev/{file}"))
}

/// Attaches a descriptor that has no tap to one, and has frames begin with the device's header.
pub(super) fn attach(
    file: &(impl AsRawFd + ?Sized),
    name: &str,
    multi_queue: bool,
) -> io::Result<()> {
    // A longer name would lose its zero byte and name another interface.
    if name.is_empty() || name.len() >= libc::IFNAMSIZ || name.contains('\0') {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "an interface's name has 1 to 15 bytes",
        ));
    }
    // SAFETY: an ifreq is integers and unions of them: all zeroes is a value of it.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    let mut flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    if multi_queue {
        flags |= libc::IFF_MULTI_QUEUE;
    }
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes one ifreq at the pointer, which is to a live local.
    checked(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &mut request) })?;
    let header = HEADER as libc::c_int;
    // SAFETY: TUNSETVNETHDRSZ reads one int from the pointer, which is to a live local.
    checked(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETVNETHDRSZ, &header) })
}

fn checked(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

impl AsRawFd for Tap {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Port for Tap {
    fn receive(&self, frame: &mut [u8]) -> io::Result<usize> {
        (&self.0).read(frame)
    }

    fn send(&self, frame: &[u8]) -> io::Result<usize> {
        (&self.0).write(frame)
    }

    fn attach(&self, on: bool) -> io::Result<()> {
        // SAFETY: an ifreq is integers and unions of them: all zeroes is a value of it.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        let flag = match on {
            true => libc::IFF_ATTACH_QUEUE,
            false => libc::IFF_DETACH_QUEUE,
        };
        request.ifr_ifru.ifru_flags = flag as libc::c_short;
        // SAFETY: TUNSETQUEUE reads one ifreq at the pointer, which is to a live local.
        let done = checked(unsafe { libc::ioctl(self.0.as_raw_fd(), libc::TUNSETQUEUE, &request) });
        match done {
            // It does, or does not, already; or there is nothing to take part in.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
            done => done,
        }
    }

    fn leads_on(&self) -> bool {
        // SAFETY: an ifreq is integers and unions of them: all zeroes is a value of it.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        // SAFETY: TUNGETIFF writes one ifreq at the pointer, which is to a live local.
        let told = unsafe { libc::ioctl(self.0.as_raw_fd(), libc::TUNGETIFF, &mut request) };
        // SAFETY: the flags are the union's member that the request writes, and any number is a value of it.
        let flags = libc::c_int::from(unsafe { request.ifr_ifru.ifru_flags });
        told == 0 && flags & libc::IFF_DETACH_QUEUE == 0
    }

    fn set_offload(&self, offload: Offload) -> io::Result<()> {
        let bits = [
            (offload.checksum, libc::TUN_F_CSUM),
            (offload.tso4, libc::TUN_F_TSO4),
            (offload.tso6, libc::TUN_F_TSO6),
            (offload.ecn, libc::TUN_F_TSO_ECN),
        ];
        let mask = bits
            .iter()
            .filter(|(on, _)| *on)
            .fold(0, |mask, (_, bit)| mask | bit);
        // SAFETY: TUNSETOFFLOAD takes its argument by value and touches no memory of ours.
        checked(unsafe {
            libc::ioctl(
                self.0.as_raw_fd(),
                libc::TUNSETOFFLOAD,
                libc::c_ulong::from(mask),
            )
        })
    }
}
