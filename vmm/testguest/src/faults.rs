//! A driver on a host that fails: what it is told, which the host compares with what it did. A test fails only where a request is not answered, or an answer is a lie.

use crate::say;
use crate::virtio::pages;
use crate::{Disk, Verdict, board, need, ready, write};

/// Bytes of a request.
const BLOCK: u32 = 4096;
const SECTORS: u64 = BLOCK as u64 / 512;

/// Reads sector 1, writes sector 5 and flushes, and says how each went.
pub fn probe() -> Verdict {
    let mut disk = Disk::open()?;
    disk.device.go();
    let read = disk.request(0, 1, 512)?;
    let written = disk.request(1, 5, 512)?;
    let flushed = disk.request(4, 0, 0)?;
    say!("read {read} write {written} flush {flushed}");
    need(disk.device.status() & crate::NEEDS_RESET == 0, "broken by a bad disk")
}

/// Writes from the beginning of the disk until it has no room; then all that was taken must be there, and can be written again.
pub fn fill() -> Verdict {
    let mut disk = Disk::open()?;
    disk.device.go();
    let end = board::read::<u64>(disk.device.config) / SECTORS;
    let mut taken = 0;
    loop {
        need(taken < end, "all was taken")?;
        disk.fill(taken as u8, BLOCK);
        match disk.request(1, taken * SECTORS, BLOCK)? {
            0 => taken += 1,
            1 => break,
            _ => return Err("neither taken nor an error"),
        }
    }
    need(disk.request(1, taken * SECTORS, BLOCK)? == 1, "an error that went by itself")?;
    say!("took {taken} blocks");
    for block in 0..taken {
        need(disk.request(0, block * SECTORS, BLOCK)? == 0, "a block cannot be read")?;
        need(disk.filled_with(block as u8, BLOCK), "a block is not what was written")?;
    }
    disk.fill(0x77, BLOCK);
    need(disk.request(1, 0, BLOCK)? == 0, "what is there cannot be written again")?;
    need(disk.request(4, 0, 0)? == 0, "what is there cannot be flushed")?;
    need(disk.device.status() & crate::NEEDS_RESET == 0, "broken by a full disk")
}

/// Writes the whole disk and flushes it: all of it is taken, and is there.
pub fn pack() -> Verdict {
    let mut disk = Disk::open()?;
    disk.device.go();
    let end = board::read::<u64>(disk.device.config) / SECTORS;
    let marks = [disk.data, disk.data + u64::from(BLOCK) - 8];
    say!("packing");
    for block in 0..end {
        marks.iter().for_each(|at| write(*at, !block));
        need(disk.request(1, block * SECTORS, BLOCK)? == 0, "a block was not taken")?;
    }
    need(disk.request(4, 0, 0)? == 0, "it cannot be flushed")?;
    for block in 0..end {
        need(disk.request(0, block * SECTORS, BLOCK)? == 0, "a block cannot be read")?;
        let there = marks.iter().all(|at| board::read::<u64>(*at) == !block);
        need(there, "a block is not what was written")?;
    }
    Ok(())
}

/// Reads sector 5 until it is not what it was, and says what it is; then writes it.
pub fn shrink() -> Verdict {
    let mut disk = Disk::open()?;
    disk.device.go();
    need(disk.request(0, 5, 512)? == 0 && disk.filled_with(5, 512), "sector 5 is wrong")?;
    say!("reading");
    let mut status = 0;
    let changed = board::wait(|| {
        status = disk.request(0, 5, 512).unwrap_or(0xff);
        status != 0 || !disk.filled_with(5, 512)
    });
    need(changed, "it stays as it was")?;
    say!("status {status} zeroes {}", disk.filled_with(0, 512));
    disk.fill(0x5a, 512);
    say!("write {}", disk.request(1, 5, 512)?);
    need(disk.device.status() & crate::NEEDS_RESET == 0, "broken by a short file")
}

/// Reads and writes all over the disk while it is destroyed underneath. Everything is answered.
pub fn wreck() -> Verdict {
    let mut disk = Disk::open()?;
    disk.device.go();
    let end = board::read::<u64>(disk.device.config) / SECTORS;
    say!("begin");
    let (mut failed, mut random) = (0, 7u64);
    for _ in 0..1500 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let kind = (random >> 60 & 1) as u32;
        match disk.request(kind, (random >> 20) % end * SECTORS, BLOCK)? {
            0 => {}
            1 => failed += 1,
            _ => return Err("neither done nor an error"),
        }
    }
    say!("failed {failed}");
    need(disk.device.status() & crate::NEEDS_RESET == 0, "broken by a bad image")
}

/// Sends frames for some seconds, whatever becomes of them. All are taken.
pub fn pour() -> Verdict {
    let device = ready(1, 0)?;
    let (mut receive, mut transmit) = (device.queue(0), device.queue(1));
    let (incoming, outgoing) = (pages(1), pages(1));
    device.go();
    receive.offer(&[(incoming, 2048, true)]);
    write(outgoing + 24, 0x88b5u16.to_be());
    say!("pouring");
    let start = board::cycles();
    while board::cycles() - start < 5_000_000_000 {
        transmit.offer(&[(outgoing, 12 + 60, false)]);
        transmit.answer().ok_or("a frame was not taken")?;
    }
    need(device.status() & crate::NEEDS_RESET == 0, "broken by a lost link")
}

/// Touches 64 MiB of memory, which the machine must have above the first 32.
pub fn eat() -> Verdict {
    say!("eating");
    (32 << 20..96 << 20).step_by(4096).for_each(|page| write(page, 1u8));
    say!("full");
    Ok(())
}
