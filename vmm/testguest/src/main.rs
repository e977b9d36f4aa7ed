//! A guest that tests its monitor: no kernel, one processor, small drivers.
//!
//! In comes the command line (`test=block,net end=reboot`); out goes a line for each test on the serial port, `ok NAME` or `FAIL NAME why`, and
//! the end that was asked for: power off, `end=reboot`, or `end=rest`. Boots by PVH, so under any monitor that loads ELF kernels.

#![no_std]
#![no_main]

mod attack;
mod board;
mod faults;
mod nmi;
mod start;
mod virtio;

use board::{apic, read, write};
use virtio::{Device, NEEDS_RESET, Queue, VERSION_1, pages};

/// Why a test failed.
type Verdict = Result<(), &'static str>;

/// The tests by name.
const TESTS: [(&str, fn() -> Verdict); 23] = [
    ("boot", || Ok(())),
    ("processor", processor),
    ("clock", clock),
    ("set-clock", set_clock),
    ("scan", scan),
    ("version", version),
    ("block", block),
    ("readonly", readonly),
    ("malformed", malformed),
    ("net", net),
    ("rng", rng),
    ("balloon", balloon),
    ("honest", honest),
    ("attack", attacks),
    ("fill", faults::fill),
    ("pack", faults::pack),
    ("probe", faults::probe),
    ("shrink", faults::shrink),
    ("wreck", faults::wreck),
    ("pour", faults::pour),
    ("eat", faults::eat),
    ("report", report),
    ("nmi", interrupted),
];

/// Called with the address of PVH's start information.
#[unsafe(no_mangle)]
extern "C" fn main(start_info: u64) -> ! {
    let line = command_line(read(start_info + 24));
    let words = || line.split(' ');
    let asked = words().find_map(|word| word.strip_prefix("test=")).unwrap_or("boot");
    for name in asked.split(',') {
        match TESTS.iter().find(|test| test.0 == name).map_or(Err("no such test"), |test| test.1()) {
            Ok(()) => say!("ok {name}"),
            Err(why) => say!("FAIL {name} {why}"),
        }
    }
    match words().find_map(|word| word.strip_prefix("end=")) {
        Some("reboot") => board::reboot(),
        Some("rest") => board::rest(),
        _ => board::power_off(),
    }
}

fn command_line(at: u64) -> &'static str {
    if at == 0 {
        return "";
    }
    let len = (0..2048).find(|&len| read::<u8>(at + len) == 0).unwrap_or(0);
    // SAFETY: the loader put the line there, and nothing of this program is in that place.
    let bytes = unsafe { core::slice::from_raw_parts(at as *const u8, len as usize) };
    core::str::from_utf8(bytes).unwrap_or("")
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    say!("FAIL panic {info}");
    board::power_off()
}

fn need(condition: bool, why: &'static str) -> Verdict {
    if condition { Ok(()) } else { Err(why) }
}

/// Tells what the processor says of itself: how its name begins, its signature, and the levels of its topology.
fn processor() -> Verdict {
    let cpuid = core::arch::x86_64::__cpuid_count;
    say!("name begins {:x}", cpuid(0x8000_0002, 0).eax);
    let features = cpuid(1, 0);
    say!("signature {:x}", features.eax);
    for level in 0..2 {
        let told = cpuid(0xb, level);
        say!("level {level} bits {} vcpus {}", told.eax, told.ebx);
    }
    need(features.ecx >> 31 == 1, "no sign of a hypervisor")
}

/// What a driver does that means no harm: a disk, the source of entropy, the balloon.
fn honest() -> Verdict {
    let mut disk = Disk::open()?;
    disk.device.go();
    disk.fill(0x3c, 512);
    need(disk.request(1, 9, 512)? == 0, "the write failed")?;
    disk.fill(0, 512);
    need(disk.request(0, 9, 512)? == 0 && disk.filled_with(0x3c, 512), "what was written does not read back")?;
    rng()?;
    balloon()
}

/// Attacks the machine with what the counter gives for a seed, which it says first.
fn attacks() -> Verdict {
    attack::attack(board::cycles());
    Ok(())
}

/// The clock's registers: century, year, month, day, hours, minutes, seconds.
const CLOCK: [u8; 7] = [0x32, 9, 8, 7, 4, 2, 0];

/// Tells what the battery-backed clock shows, and whether there is KVM's own.
fn clock() -> Verdict {
    let [century, year, month, day, hours, minutes, seconds] = CLOCK.map(board::clock_read);
    say!("clock {century:02x}{year:02x}-{month:02x}-{day:02x} {hours:02x}:{minutes:02x}:{seconds:02x}");
    let features = core::arch::x86_64::__cpuid_count(0x4000_0001, 0).eax;
    say!("kvm clock {}", features & 9 != 0);
    Ok(())
}

/// Sets the battery-backed clock to noon of 5 May 2031.
fn set_clock() -> Verdict {
    board::clock_write(11, 0x82);
    for (register, value) in CLOCK.into_iter().zip([0x20, 0x31, 5, 5, 0x12, 0, 0]) {
        board::clock_write(register, value);
    }
    board::clock_write(11, 2);
    need(board::clock_read(9) == 0x31 && board::clock_read(4) == 0x12, "what was set does not read back")
}

/// Lists what is on the bus.
fn scan() -> Verdict {
    for slot in 0..32 {
        let id = board::config_read(slot, 0);
        if id != !0 {
            say!("slot {slot} {:04x}:{:04x}", id & 0xffff, id >> 16);
        }
    }
    need(board::config_read(0, 8) >> 24 == 6, "no host bridge in slot 0")
}

fn ready(kind: u32, features: u64) -> Result<Device, &'static str> {
    let device = Device::find(kind).ok_or("no device")?;
    need(device.negotiate(features | VERSION_1), "features were refused")?;
    Ok(device)
}

/// Nothing is agreed on with a driver that does not know virtio 1.
fn version() -> Verdict {
    let device = Device::find(4).ok_or("no device")?;
    need(!device.negotiate(0), "agreed without VERSION_1")?;
    need(!device.negotiate(VERSION_1 | 1 << 50), "agreed on a feature that was not offered")
}

/// A disk with its queue, and pages for header, data and status.
struct Disk {
    device: Device,
    queue: Queue,
    header: u64,
    data: u64,
}

const FLUSH: u64 = 1 << 9;
const DATA: u32 = 4096;

impl Disk {
    fn open() -> Result<Self, &'static str> {
        let device = Device::find(2).ok_or("no device")?;
        let flush = device.offered() & FLUSH;
        let device = ready(2, flush)?;
        let queue = device.queue(0);
        Ok(Self { device, queue, header: pages(1), data: pages(DATA as u64 / 4096) })
    }

    fn request(&mut self, kind: u32, sector: u64, len: u32) -> Result<u8, &'static str> {
        write(self.header, kind);
        write(self.header + 8, sector);
        let status = self.header + 512;
        write(status, 0xeeu8);
        let (header, end) = ((self.header, 16, false), (status, 1, true));
        match len {
            0 => self.queue.offer(&[header, end]),
            _ => self.queue.offer(&[header, (self.data, len, kind == 0), end]),
        }
        self.queue.answer().ok_or("no answer")?;
        Ok(read(status))
    }

    fn filled_with(&self, byte: u8, len: u32) -> bool {
        (0..u64::from(len)).all(|at| read::<u8>(self.data + at) == byte)
    }

    fn fill(&self, byte: u8, len: u32) {
        (0..u64::from(len)).for_each(|at| write(self.data + at, byte));
    }
}

/// The disk's sectors 1 and 2 are full of 1 and 2. Sector 5 gets 0xa5, and is on the host's disk afterwards.
fn block() -> Verdict {
    let mut disk = Disk::open()?;
    apic::enable();
    need(disk.device.interrupt(0, 0x41), "no MSI-X vector")?;
    disk.device.go();
    need(read::<u64>(disk.device.config) >= 8, "the disk is too small")?;
    need(disk.request(0, 1, 512)? == 0 && disk.filled_with(1, 512), "sector 1 is wrong")?;
    need(disk.request(0, 2, 512)? == 0 && disk.filled_with(2, 512), "sector 2 is wrong")?;
    need(board::wait(|| apic::requested(0x41)), "no interrupt")?;
    disk.fill(0xa5, 512);
    need(disk.request(1, 5, 512)? == 0, "the write failed")?;
    need(disk.request(4, 0, 0)? == 0, "the flush failed")?;
    disk.fill(0, 512);
    need(disk.request(0, 5, 512)? == 0 && disk.filled_with(0xa5, 512), "what was written does not read back")
}

fn readonly() -> Verdict {
    let mut disk = Disk::open()?;
    disk.device.go();
    need(disk.device.offered() & 1 << 5 != 0, "not offered as read-only")?;
    need(disk.request(1, 5, 512)? == 1, "a write was taken")
}

/// Requests that make no sense, then rings that make no sense, then a reset that makes all well.
fn malformed() -> Verdict {
    let mut disk = Disk::open()?;
    disk.device.go();
    need(disk.request(0, 1 << 40, 512)? == 1, "read beyond the end")?;
    need(disk.request(0, u64::MAX, 512)? == 1, "read at the last sector there could be")?;
    need(disk.request(0, 0, 100)? == 1, "read part of a sector")?;
    need(disk.request(77, 0, 0)? == 2, "an unknown request")?;
    need(disk.device.status() & NEEDS_RESET == 0, "broken by a bad request")?;
    disk.queue.offer(&[(0xffff_ffff_ffff_0000, 512, true)]);
    need(board::wait(|| disk.device.status() & NEEDS_RESET != 0), "a buffer outside memory was taken")?;
    let mut disk = Disk::open()?;
    disk.device.go();
    need(disk.request(0, 1, 512)? == 0 && disk.filled_with(1, 512), "no life after a reset")
}

/// Sends "ping" and waits for "pong", with the ethernet type that is kept for experiments.
fn net() -> Verdict {
    let device = ready(1, 1 << 5)?;
    let (mut receive, mut transmit) = (device.queue(0), device.queue(1));
    let (incoming, outgoing) = (pages(1), pages(1));
    device.go();
    receive.offer(&[(incoming, 2048, true)]);
    for at in 0..6 {
        write(outgoing + 12 + at, 0xffu8);
        write(outgoing + 18 + at, read::<u8>(device.config + at));
    }
    write(outgoing + 24, 0x88b5u16.to_be());
    write(outgoing + 26, *b"ping");
    // The host's end may not be there yet, and then loses what is sent to it.
    for _ in 0..200 {
        transmit.offer(&[(outgoing, 12 + 60, false)]);
        transmit.answer().ok_or("the frame was not taken")?;
        while board::wait_for(300_000_000, || receive.answered()) {
            receive.answer().ok_or("no frame came")?;
            if read::<u16>(incoming + 24) == 0x88b5u16.to_be() && read::<[u8; 4]>(incoming + 26) == *b"pong" {
                return Ok(());
            }
            receive.offer(&[(incoming, 2048, true)]);
        }
    }
    Err("no pong came")
}

fn rng() -> Verdict {
    let device = ready(4, 0)?;
    let mut queue = device.queue(0);
    let buffer = pages(1);
    device.go();
    queue.offer(&[(buffer, 64, true)]);
    need(queue.answer().ok_or("no answer")? == 64, "not 64 bytes")?;
    need((0..64).any(|at| read::<u8>(buffer + at) != 0), "all zeroes")
}

/// Gives 16 pages up, which are zero from then on, and takes them back.
fn balloon() -> Verdict {
    let device = ready(5, 0)?;
    let (mut inflate, mut deflate) = (device.queue(0), device.queue(1));
    let (given, list) = (pages(16), pages(1));
    device.go();
    for page in 0..16 {
        write(given + page * 4096, 0x55u8);
        write(list + page * 4, (given / 4096 + page) as u32);
    }
    inflate.offer(&[(list, 64, false)]);
    inflate.answer().ok_or("no answer to inflating")?;
    write(device.config + 4, 16u32);
    need((0..16).all(|page| read::<u8>(given + page * 4096) == 0), "the pages were not given up")?;
    deflate.offer(&[(list, 64, false)]);
    deflate.answer().ok_or("no answer to deflating")?;
    write(device.config + 4, 0u32);
    write(given, 7u8);
    need(read::<u8>(given) == 7, "the pages did not come back")
}

/// Reports 7 MiB of memory that can be used, until the next report is asked for.
fn report() -> Verdict {
    let device = ready(5, 1 << 1)?;
    let mut reports = device.queue(2);
    let statistic = pages(1);
    device.queue(0);
    device.queue(1);
    device.go();
    write(statistic, 6u16);
    for (at, byte) in (7u64 << 20).to_le_bytes().into_iter().enumerate() {
        write(statistic + 2 + at as u64, byte);
    }
    reports.offer(&[(statistic, 10, false)]);
    reports.answer().ok_or("the next report was not asked for")?;
    Ok(())
}

/// Waits for a non-maskable interrupt; there is one for each that was asked for.
fn interrupted() -> Verdict {
    nmi::listen();
    say!("listening");
    need(board::wait(|| nmi::count() > 0), "none came")?;
    need(!board::wait_for(50_000_000, || nmi::count() > 1), "more than one came")
}
