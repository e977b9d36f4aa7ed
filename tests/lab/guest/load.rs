//! load FILE read|write sequential|random BYTES THREADS MILLISECONDS: requests of so many bytes, past the guest's page cache, for as long as is said.
//!
//! Prints how many requests were made, and in how many nanoseconds. Each thread has one request under way, and sequential ones have a part of the file each.
//! A program of the test guest: `build-guest` compiles it alone, without crates.

use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::time::{Duration, Instant};

/// `O_DIRECT` of x86-64 Linux.
const DIRECT: i32 = 0o40000;
const PAGE: usize = 4096;

#[derive(Clone)]
struct Load {
    path: String,
    writes: bool,
    random: bool,
    bytes: usize,
    threads: u64,
    time: Duration,
}

fn main() -> Result<()> {
    let load = understand().ok_or_else(|| {
        let usage = "load FILE read|write sequential|random BYTES THREADS MILLISECONDS";
        Error::new(ErrorKind::InvalidInput, usage)
    })?;
    let began = Instant::now();
    let threads: Vec<_> = (0..load.threads)
        .map(|number| {
            let load = load.clone();
            std::thread::spawn(move || load.run(number))
        })
        .collect();
    let mut requests = 0;
    for thread in threads {
        let done = thread.join();
        requests += done.unwrap_or_else(|_| Err(Error::other("a thread panicked")))?;
    }
    println!("load {requests} {}", began.elapsed().as_nanos());
    Ok(())
}

fn understand() -> Option<Load> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [path, direction, order, bytes, threads, time] = words.as_slice() else {
        return None;
    };
    let choice = |word: &str, no: &str, yes: &str| match word {
        word if word == no => Some(false),
        word if word == yes => Some(true),
        _ => None,
    };
    Some(Load {
        path: path.clone(),
        writes: choice(direction, "read", "write")?,
        random: choice(order, "sequential", "random")?,
        bytes: bytes.parse().ok().filter(|n| *n > 0 && n % PAGE == 0)?,
        threads: threads.parse().ok().filter(|n| *n > 0)?,
        time: Duration::from_millis(time.parse().ok()?),
    })
}

impl Load {
    fn run(&self, number: u64) -> Result<u64> {
        let file = OpenOptions::new()
            .read(true)
            .write(self.writes)
            .custom_flags(DIRECT)
            .open(&self.path)?;
        let blocks = length(&file)? / self.bytes as u64 / self.threads;
        if blocks == 0 {
            return Err(Error::new(ErrorKind::InvalidInput, "the file is too short"));
        }
        // The kernel wants whole pages for what goes past its cache.
        let mut memory = vec![0x5a; self.bytes + PAGE];
        let start = memory.as_ptr().align_offset(PAGE);
        let buffer = &mut memory[start..start + self.bytes];
        let mut place = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(number + 1);
        let (mut requests, end) = (0, Instant::now() + self.time);
        while Instant::now() < end {
            // Random enough, and the same in each run (xorshift).
            place ^= place << 13;
            place ^= place >> 7;
            place ^= place << 17;
            let block = if self.random { place } else { requests } % blocks;
            let at = (number * blocks + block) * self.bytes as u64;
            if self.writes {
                file.write_all_at(buffer, at)?;
            } else {
                file.read_exact_at(buffer, at)?;
            }
            requests += 1;
        }
        Ok(requests)
    }
}

/// A block device has no length in its inode: its end tells.
fn length(mut file: &File) -> Result<u64> {
    std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0))
}
