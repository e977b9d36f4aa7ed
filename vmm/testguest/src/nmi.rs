//! Non-maskable interrupts: the only ones that come to this program.

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicU32, Ordering};

#[unsafe(no_mangle)]
static NMI_COUNT: AtomicU32 = AtomicU32::new(0);

global_asm!(
    r#"
    .section .text
    .code64
    .global nmi_entry
nmi_entry:
    lock inc dword ptr [NMI_COUNT]
    iretq
"#
);

unsafe extern "C" {
    fn nmi_entry();
}

#[repr(C, packed)]
struct Pointer {
    limit: u16,
    base: u64,
}

/// Gates 0 to 2, of two words each.
static mut TABLE: [u64; 6] = [0; 6];

/// Counts them from now on.
pub fn listen() {
    const VECTOR: usize = 2;
    const CODE: u64 = 0x08;
    const INTERRUPT_GATE: u64 = 0x8e;
    let entry = nmi_entry as *const () as u64;
    let low = entry & 0xffff | CODE << 16 | INTERRUPT_GATE << 40 | (entry >> 16 & 0xffff) << 48;
    // SAFETY: one processor, and no interrupt comes through the table before it is whole; what it points to lives as long as the program.
    unsafe {
        let table = (&raw mut TABLE).cast::<u64>();
        table.add(VECTOR * 2).write(low);
        table.add(VECTOR * 2 + 1).write(entry >> 32);
        let pointer = Pointer { limit: 47, base: table as u64 };
        asm!("lidt [{}]", in(reg) &raw const pointer);
    }
}

/// How many have come.
pub fn count() -> u32 {
    NMI_COUNT.load(Ordering::SeqCst)
}
