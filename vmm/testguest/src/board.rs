//! The machine's ports and registers: serial port, clock, PCI configuration, power.

use core::arch::asm;
use core::fmt::{self, Write};

pub fn out8(port: u16, value: u8) {
    // SAFETY: a port access touches no memory.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value) };
}

pub fn out16(port: u16, value: u16) {
    // SAFETY: as above.
    unsafe { asm!("out dx, ax", in("dx") port, in("ax") value) };
}

pub fn out32(port: u16, value: u32) {
    // SAFETY: as above.
    unsafe { asm!("out dx, eax", in("dx") port, in("eax") value) };
}

pub fn in8(port: u16) -> u8 {
    let value;
    // SAFETY: as above.
    unsafe { asm!("in al, dx", in("dx") port, out("al") value) };
    value
}

pub fn in16(port: u16) -> u16 {
    let value;
    // SAFETY: as above.
    unsafe { asm!("in ax, dx", in("dx") port, out("ax") value) };
    value
}

pub fn in32(port: u16) -> u32 {
    let value;
    // SAFETY: as above.
    unsafe { asm!("in eax, dx", in("dx") port, out("eax") value) };
    value
}

/// A register of the battery-backed clock.
pub fn clock_read(register: u8) -> u8 {
    out8(0x70, register);
    in8(0x71)
}

pub fn clock_write(register: u8, value: u8) {
    out8(0x70, register);
    out8(0x71, value);
}

/// The serial port.
pub struct Serial;

impl Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(|byte| out8(0x3f8, byte));
        Ok(())
    }
}

/// Writes a line to the serial port.
#[macro_export]
macro_rules! say {
    ($($arg:tt)*) => {{
        use core::fmt::Write;
        let _ = writeln!($crate::board::Serial, $($arg)*);
    }};
}

/// Time stamp counter: some 2 to 4 thousand million a second.
pub fn cycles() -> u64 {
    // SAFETY: reads a counter.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Waits until `done`, for some seconds at most; says whether it came.
pub fn wait(done: impl FnMut() -> bool) -> bool {
    wait_for(20_000_000_000, done)
}

/// Waits until `done`, for so many cycles at most; says whether it came.
pub fn wait_for(patience: u64, mut done: impl FnMut() -> bool) -> bool {
    let start = cycles();
    while !done() {
        if cycles() - start > patience {
            return false;
        }
        core::hint::spin_loop();
    }
    true
}

pub fn config_read(slot: u32, register: u32) -> u32 {
    out32(0xcf8, 1 << 31 | slot << 11 | (register & 0xfc));
    in32(0xcfc)
}

pub fn config_write(slot: u32, register: u32, value: u32) {
    out32(0xcf8, 1 << 31 | slot << 11 | (register & 0xfc));
    out32(0xcfc, value);
}

/// One byte of configuration space.
pub fn config_byte(slot: u32, register: u32) -> u8 {
    (config_read(slot, register) >> (register % 4 * 8)) as u8
}

pub fn read<T: Copy>(address: u64) -> T {
    // SAFETY: the first 4 GiB are mapped, and every address here is a device's register or memory of this program.
    unsafe { (address as *const T).read_volatile() }
}

pub fn write<T: Copy>(address: u64, value: T) {
    // SAFETY: as above.
    unsafe { (address as *mut T).write_volatile(value) };
}

/// Soft off by ACPI's PM1a control register; the second value is what QEMU's pc machine calls off.
pub fn power_off() -> ! {
    out16(0x604, 1 << 13 | 5 << 10);
    out16(0x604, 1 << 13);
    rest()
}

/// ACPI's reset register.
pub fn reboot() -> ! {
    out8(0x60c, 1);
    rest()
}

pub fn rest() -> ! {
    loop {
        // SAFETY: halts; interrupts are off.
        unsafe { asm!("hlt") };
    }
}

/// The local interrupt controller: interrupts stay off in the processor, and show as requests.
pub mod apic {
    use super::{read, write};

    const BASE: u64 = 0xfee0_0000;

    /// Turns it on.
    pub fn enable() {
        write::<u32>(BASE + 0xf0, 0x1ff);
    }

    /// Whether `vector` has been requested and not been taken.
    pub fn requested(vector: u32) -> bool {
        read::<u32>(BASE + 0x200 + u64::from(vector / 32) * 16) & 1 << (vector % 32) != 0
    }
}
