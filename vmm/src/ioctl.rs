//! Numbers of ioctl requests, as the kernel's headers make them (`include/uapi/asm-generic/ioctl.h`).

/// A request without an argument, or with one by value: `_IO`.
pub const fn io(kind: u32, number: u32) -> u32 {
    kind << 8 | number
}

/// A request that reads a `T`: `_IOW`.
pub const fn iow<T>(kind: u32, number: u32) -> u32 {
    1 << 30 | (size_of::<T>() as u32) << 16 | io(kind, number)
}

/// A request that writes a `T`: `_IOR`.
pub const fn ior<T>(kind: u32, number: u32) -> u32 {
    2 << 30 | (size_of::<T>() as u32) << 16 | io(kind, number)
}

/// A request that reads and writes a `T`: `_IOWR`.
pub const fn iowr<T>(kind: u32, number: u32) -> u32 {
    iow::<T>(kind, number) | ior::<T>(kind, number)
}
