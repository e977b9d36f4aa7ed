//! A guest's ring with its guards up.
//!
//! In come the descriptors that a guest wrote, out go [`Chain`]s whose every byte lies inside guest memory, whose number of buffers is bounded,
//! and whose readable part precedes the writable one. Whatever breaks these rules is [`BrokenRing`]: the ring then asks the
//! guest for a reset, hands out nothing more, and the device idles.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use thiserror::Error;
use virtio_queue::{DescriptorChain, Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, VolatileSlice};
use vmm_sys_util::eventfd::EventFd;

use super::{ActiveQueue, VirtioInterrupt};

/// Most buffers in one chain. Drivers use up to queue size; an indirect table could hold 65535, and a guest that gives such tables in
/// every slot would make the monitor allocate for and walk through millions of descriptors.
const MOST_BUFFERS: usize = 1024;

/// A slice of guest memory.
pub type Slice<'a> = VolatileSlice<'a, ()>;

/// The guest broke the rules of a ring.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum BrokenRing {
    /// The indices or addresses of the rings themselves make no sense.
    #[error("queue {queue}: {why}")]
    Indices {
        /// Number of the queue.
        queue: u16,
        /// What the rings said.
        why: String,
    },
    /// The descriptors of a chain make no sense.
    #[error("queue {queue}: chain {head} {why}")]
    Chain {
        /// Number of the queue.
        queue: u16,
        /// Index of the chain's first descriptor.
        head: u16,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// A run of guest memory: checked to lie wholly inside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buffer {
    /// Its first guest physical address.
    pub addr: GuestAddress,
    /// Its length in bytes, not zero.
    pub len: u32,
}

/// Runs of guest memory, one after the other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Buffers(VecDeque<Buffer>);

impl Buffers {
    /// All bytes together. A chain holds less than 4 GiB.
    pub fn len(&self) -> u64 {
        self.0.iter().map(|buffer| u64::from(buffer.len)).sum()
    }

    /// Says whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The runs, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Buffer> {
        self.0.iter()
    }

    /// Takes the first `len` bytes away and returns them; fewer when there are fewer.
    pub fn take(&mut self, len: u64) -> Buffers {
        let mut taken = VecDeque::new();
        let mut left = len;
        while left > 0
            && let Some(first) = self.0.front_mut()
        {
            let part = u64::from(first.len).min(left);
            left -= part;
            // `part` is at most `first.len`, and the run lies inside guest memory: neither step can overflow.
            let part = part as u32;
            taken.push_back(Buffer {
                addr: first.addr,
                len: part,
            });
            if part == first.len {
                self.0.pop_front();
            } else {
                first.addr.0 += u64::from(part);
                first.len -= part;
            }
        }
        Buffers(taken)
    }

    /// Puts back in front what [`Buffers::take`] took.
    pub fn put_back(&mut self, taken: Buffers) {
        for buffer in taken.0.into_iter().rev() {
            self.0.push_front(buffer);
        }
    }

    /// Copies the first bytes of the buffers into `data`; returns how many there were.
    pub fn read(&self, memory: &GuestMemoryMmap, data: &mut [u8]) -> usize {
        let mut done = 0;
        for buffer in &self.0 {
            let rest = data.get_mut(done..).unwrap_or_default();
            let part = rest.len().min(buffer.len as usize);
            if part == 0 || memory.read_slice(&mut rest[..part], buffer.addr).is_err() {
                break;
            }
            done += part;
        }
        done
    }

    /// Whether all bytes are zero. The guest may change them meanwhile: then it is one of both.
    pub fn is_zero(&self, memory: &GuestMemoryMmap) -> bool {
        let mut page = [0; 4096];
        self.0.iter().all(|buffer| {
            let mut left = buffer.len as usize;
            let mut at = buffer.addr;
            while left > 0 {
                let part = left.min(page.len());
                if memory.read_slice(&mut page[..part], at).is_err()
                    || page[..part].iter().any(|byte| *byte != 0)
                {
                    return false;
                }
                left -= part;
                at.0 += part as u64;
            }
            true
        })
    }

    /// Copies `data` into the first bytes of the buffers; returns how many fitted.
    pub fn write(&self, memory: &GuestMemoryMmap, data: &[u8]) -> usize {
        let mut done = 0;
        for buffer in &self.0 {
            let rest = data.get(done..).unwrap_or_default();
            let part = rest.len().min(buffer.len as usize);
            if part == 0 || memory.write_slice(&rest[..part], buffer.addr).is_err() {
                break;
            }
            done += part;
        }
        done
    }

    /// Makes all bytes zero.
    pub fn clear(&self, memory: &GuestMemoryMmap) {
        let page = [0; 4096];
        for buffer in &self.0 {
            let (mut at, mut left) = (buffer.addr, buffer.len as usize);
            while left > 0 {
                let part = left.min(page.len());
                // Each run was checked when the chain was taken.
                let _ = memory.write_slice(&page[..part], at);
                left -= part;
                at.0 += part as u64;
            }
        }
    }

    /// The runs as slices of the mapped memory, for scattered input and output without copies.
    pub fn slices<'a>(&self, memory: &'a GuestMemoryMmap) -> Vec<Slice<'a>> {
        // Each run was checked by the same call when the chain was taken, so none is left out.
        self.0
            .iter()
            .filter_map(|b| memory.get_slice(b.addr, b.len as usize).ok())
            .collect()
    }
}

#[cfg(test)]
impl FromIterator<Buffer> for Buffers {
    fn from_iter<I: IntoIterator<Item = Buffer>>(runs: I) -> Self {
        Self(runs.into_iter().collect())
    }
}

/// A request: what the guest wrote, then room for the device's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Index of its first descriptor: names it when it is given back.
    pub head: u16,
    /// What the device may read.
    pub readable: Buffers,
    /// What the device may write.
    pub writable: Buffers,
}

/// Where a queue is in the monitor's own memory, for a part of the kernel that serves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its entries.
    pub size: u16,
    /// Address of the descriptors.
    pub descriptors: u64,
    /// Address of the ring of what the guest offers.
    pub available: u64,
    /// Address of the ring of what was used.
    pub used: u64,
}

/// One queue in use: the guest's rings, the memory they are in, and the way to tell the guest.
pub struct Ring {
    index: u16,
    queue: Queue,
    kick: Arc<EventFd>,
    memory: GuestMemoryMmap,
    interrupt: Arc<dyn VirtioInterrupt>,
    broken: bool,
}

impl Ring {
    /// The ring of an activated queue.
    pub fn new(
        active: ActiveQueue,
        memory: GuestMemoryMmap,
        interrupt: Arc<dyn VirtioInterrupt>,
    ) -> Self {
        Self {
            index: active.index,
            queue: active.queue,
            kick: active.kick,
            memory,
            interrupt,
            broken: false,
        }
    }

    /// Number of the queue.
    pub fn index(&self) -> u16 {
        self.index
    }

    /// Entries of the queue, as the guest chose.
    pub fn size(&self) -> u16 {
        self.queue.size()
    }

    /// Where it is: `None` if it is not wholly inside one run of the guest's memory, with the fields in which both sides say when they want to be notified.
    pub fn place(&self) -> Option<Place> {
        let size = self.queue.size();
        let at = |guest: u64, fixed: usize, entry: usize| {
            let len = fixed + entry * usize::from(size);
            let slice = self.memory.get_slice(GuestAddress(guest), len).ok()?;
            Some(slice.ptr_guard().as_ptr().addr() as u64)
        };
        // Source: virtio 1.2, sections 2.7.5, 2.7.6 and 2.7.8.
        Some(Place {
            size,
            descriptors: at(self.queue.desc_table(), 0, 16)?,
            available: at(self.queue.avail_ring(), 6, 2)?,
            used: at(self.queue.used_ring(), 6, 8)?,
        })
    }

    /// Buffers that were given back so far, as the ring in the guest's memory says: the guest may have written anything there.
    pub fn given_back(&self) -> Option<u16> {
        // Source: virtio 1.2, section 2.7.8.
        let at = GuestAddress(self.queue.used_ring().checked_add(2)?);
        let index = self.memory.load::<u16>(at, Ordering::Acquire).ok()?;
        Some(u16::from_le(index))
    }

    /// What becomes readable when the guest notifies the queue.
    pub fn kick(&self) -> Arc<EventFd> {
        Arc::clone(&self.kick)
    }

    /// The guest's memory.
    pub fn memory(&self) -> &GuestMemoryMmap {
        &self.memory
    }

    /// The next request, if there is one. A broken ring has none.
    pub fn pop(&mut self) -> Option<Chain> {
        if self.broken {
            return None;
        }
        let popped = match self.queue.iter(&self.memory) {
            Ok(mut available) => available
                .next()
                .map(|chain| checked(self.index, &self.memory, chain)),
            Err(error) => Some(Err(BrokenRing::Indices {
                queue: self.index,
                why: error.to_string(),
            })),
        };
        match popped? {
            Ok(chain) => Some(chain),
            Err(error) => {
                self.fail(&error);
                None
            }
        }
    }

    /// Puts the request that [`Ring::pop`] gave last back: it will be next again.
    pub fn unpop(&mut self) {
        self.queue.go_to_previous_position();
    }

    /// Gives the request with `head` back to the guest, with `written` bytes of answer.
    pub fn push(&mut self, head: u16, written: u32) {
        if self.broken {
            return;
        }
        if let Err(error) = self.queue.add_used(&self.memory, head, written) {
            self.fail(&BrokenRing::Indices {
                queue: self.index,
                why: error.to_string(),
            });
        }
    }

    /// Interrupts the guest about what was pushed, unless it does not want that now.
    pub fn notify(&mut self) {
        if self.broken {
            return;
        }
        match self.queue.needs_notification(&self.memory) {
            Ok(true) => self.interrupt.queue(self.index),
            Ok(false) => {}
            Err(error) => self.fail(&BrokenRing::Indices {
                queue: self.index,
                why: error.to_string(),
            }),
        }
    }

    /// Asks the guest to notify about new requests; says whether some came meanwhile, so that the caller must look again.
    pub fn listen(&mut self) -> bool {
        if self.broken {
            return false;
        }
        match self.queue.enable_notification(&self.memory) {
            Ok(more) => more,
            Err(error) => {
                self.fail(&BrokenRing::Indices {
                    queue: self.index,
                    why: error.to_string(),
                });
                false
            }
        }
    }

    /// Marks the ring as broken by a request that `why` describes.
    pub fn refuse(&mut self, head: u16, why: &'static str) {
        self.fail(&BrokenRing::Chain {
            queue: self.index,
            head,
            why,
        });
    }

    /// Answers every request there is: `serve` gets each and returns how many bytes of answer it wrote. The guest is interrupted once at the end,
    /// or earlier after a ring full of answers.
    pub fn serve(
        &mut self,
        mut serve: impl FnMut(&GuestMemoryMmap, Chain) -> Result<u32, &'static str>,
    ) {
        // A guest that adds requests as fast as they are served keeps only its own device's worker busy; it gets its interrupts by the ring's
        // size at the latest.
        let most = u32::from(self.queue.size());
        let mut unannounced = 0;
        loop {
            while let Some(chain) = self.pop() {
                let head = chain.head;
                match serve(&self.memory, chain) {
                    Ok(written) => self.push(head, written),
                    Err(why) => self.refuse(head, why),
                }
                unannounced += 1;
                if unannounced == most {
                    self.notify();
                    unannounced = 0;
                }
            }
            if !self.listen() {
                break;
            }
        }
        if unannounced > 0 {
            self.notify();
        }
    }

    fn fail(&mut self, error: &BrokenRing) {
        tracing::warn!(%error, "guest broke a virtio ring: the device waits for a reset");
        self.broken = true;
        self.interrupt.needs_reset();
    }
}

/// Collects a chain's buffers and checks each.
fn checked(
    queue: u16,
    memory: &GuestMemoryMmap,
    chain: DescriptorChain<&GuestMemoryMmap>,
) -> Result<Chain, BrokenRing> {
    let head = chain.head_index();
    let broken = |why| BrokenRing::Chain { queue, head, why };
    let (mut readable, mut writable) = (VecDeque::new(), VecDeque::new());
    // The iterator ends without a word at descriptors it cannot read, loops, and nested tables: then the last one promised another.
    let mut promised = true;
    for descriptor in chain {
        promised = descriptor.has_next();
        if readable.len() + writable.len() == MOST_BUFFERS {
            return Err(broken("has too many buffers"));
        }
        let buffer = Buffer {
            addr: descriptor.addr(),
            len: descriptor.len(),
        };
        if buffer.len == 0 {
            continue;
        }
        if memory.get_slice(buffer.addr, buffer.len as usize).is_err() {
            return Err(broken("has a buffer outside guest memory"));
        }
        if descriptor.is_write_only() {
            writable.push_back(buffer);
        } else if writable.is_empty() {
            readable.push_back(buffer);
        } else {
            return Err(broken("has a readable buffer after a writable one"));
        }
    }
    if promised {
        return Err(broken("leads nowhere, or in a circle"));
    }
    Ok(Chain {
        head,
        readable: Buffers(readable),
        writable: Buffers(writable),
    })
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
