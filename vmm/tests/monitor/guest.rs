//! A guest of a few instructions, and the monitor that runs it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Longest wait for anything; a guest that is emulated takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// Whether there is a KVM to test with; says so if not.
pub fn kvm() -> Option<()> {
    match File::options().read(true).write(true).open("/dev/kvm") {
        Ok(_) => Some(()),
        Err(error) => {
            eprintln!("skipped: cannot open /dev/kvm: {error}");
            None
        }
    }
}

/// Where the code is, in the file and in memory.
const CODE: u64 = 0x10_0000;
/// Where the text for string instructions is.
const TEXT: u64 = 0x11_0000;

/// A guest's instructions. They are the same in 32-bit and 64-bit mode.
pub struct Program {
    code: Vec<u8>,
    text: Vec<u8>,
    pvh: bool,
}

impl Program {
    /// Begins in 64-bit mode.
    pub fn new() -> Self {
        Self {
            code: Vec::new(),
            text: Vec::new(),
            pvh: false,
        }
    }

    /// Begins in 32-bit mode, by the PVH protocol.
    pub fn pvh() -> Self {
        Self {
            pvh: true,
            ..Self::new()
        }
    }

    fn code(mut self, code: &[u8]) -> Self {
        self.code.extend(code);
        self
    }

    /// `mov dx, port`
    fn port(self, port: u16) -> Self {
        self.code(&[0x66, 0xba]).code(&port.to_le_bytes())
    }

    pub fn out8(self, port: u16, value: u8) -> Self {
        self.port(port).code(&[0xb0, value, 0xee])
    }

    pub fn out16(self, port: u16, value: u16) -> Self {
        self.port(port)
            .code(&[0x66, 0xb8])
            .code(&value.to_le_bytes())
            .code(&[0x66, 0xef])
    }

    /// Writes the text to the serial port, byte by byte.
    pub fn say(self, text: &str) -> Self {
        text.bytes()
            .fold(self, |program, byte| program.out8(0x3f8, byte))
    }

    /// Writes the text by one `rep outsb`.
    pub fn say_at_once(mut self, text: &str) -> Self {
        self.text = text.as_bytes().to_vec();
        let count = u32::try_from(text.len()).unwrap();
        // mov esi, TEXT; mov ecx, count; rep outsb
        self.code(&[0xbe])
            .code(&u32::try_from(TEXT).unwrap().to_le_bytes())
            .code(&[0xb9])
            .code(&count.to_le_bytes())
            .port(0x3f8)
            .code(&[0xf3, 0x6e])
    }

    /// Soft off by ACPI's control register.
    pub fn power_off(self) -> Self {
        self.out16(0x604, 1 << 13 | 5 << 10).rest()
    }

    /// ACPI's reset register.
    pub fn reset(self) -> Self {
        self.out8(0x60c, 1).rest()
    }

    /// Runs on the spot for ever.
    pub fn spin(self) -> Self {
        // jmp to itself
        self.code(&[0xeb, 0xfe])
    }

    /// Halts for ever.
    pub fn rest(self) -> Self {
        // hlt; jmp back
        self.code(&[0xf4, 0xeb, 0xfd])
    }

    /// An exception with nobody to handle it.
    pub fn crash(self) -> Self {
        self.code(&[0x0f, 0x0b])
    }

    /// Writes dots for ever, with a pause after each.
    pub fn count(self) -> Self {
        // mov ecx, 1000; loop: dec ecx; jnz loop; out; jmp
        self.port(0x3f8).code(&[
            0xb0, b'.', 0xb9, 0xe8, 0x03, 0, 0, 0xff, 0xc9, 0x75, 0xfc, 0xee, 0xeb, 0xf4,
        ])
    }

    pub fn enable_power_button(self) -> Self {
        self.out16(0x602, 1 << 8)
    }

    /// Looks at the button's status until it is pressed, and powers off.
    pub fn power_off_on_button(self) -> Self {
        // in ax, dx; test ah, 1; jz back
        self.port(0x600)
            .code(&[0x66, 0xed, 0xf6, 0xc4, 0x01, 0x74, 0xf9])
            .power_off()
    }

    /// Writes what it reads on the serial port, for ever.
    pub fn echo(self) -> Self {
        // wait: mov dx, 0x3fd; in al, dx; test al, 1; jz wait; mov dx, 0x3f8; in al, dx; out dx, al; jmp wait
        self.code(&[0x66, 0xba, 0xfd, 0x03, 0xec, 0xa8, 0x01, 0x74, 0xf7])
            .code(&[0x66, 0xba, 0xf8, 0x03, 0xec, 0xee, 0xeb, 0xef])
    }

    /// Powers off if the device at this PCI place (bus, slot, function) is virtio's, and crashes if it is not.
    pub fn power_off_if_virtio(self, bus: u8, slot: u8, function: u8) -> Self {
        let address = 0x8000_0000_u32
            | u32::from(bus) << 16
            | u32::from(slot) << 11
            | u32::from(function) << 8;
        // mov eax, address; out dx, eax; in ax, dx; cmp ax, 0x1af4; jz over; ud2
        self.port(0xcf8)
            .code(&[0xb8])
            .code(&address.to_le_bytes())
            .code(&[0xef])
            .port(0xcfc)
            .code(&[0x66, 0xed, 0x66, 0x3d, 0xf4, 0x1a, 0x74, 0x02, 0x0f, 0x0b])
            .power_off()
    }

    /// The program as an ELF executable.
    pub fn elf(&self) -> Vec<u8> {
        const NOTE: u64 = 0x180;
        const FILE: u64 = 0x200;
        let mut segments = vec![(1_u32, FILE, CODE, self.code.len() as u64)];
        let text = FILE + self.code.len() as u64;
        if !self.text.is_empty() {
            segments.push((1, text, TEXT, self.text.len() as u64));
        }
        if self.pvh {
            segments.push((4, NOTE, 0, 20));
        }
        let mut image = b"\x7fELF\x02\x01\x01".to_vec();
        image.resize(16, 0);
        image.extend([2, 0, 62, 0, 1, 0, 0, 0]);
        for value in [CODE, 64, 0] {
            image.extend(value.to_le_bytes());
        }
        image.extend([
            0,
            0,
            0,
            0,
            64,
            0,
            56,
            0,
            u8::try_from(segments.len()).unwrap(),
            0,
            0,
            0,
            0,
            0,
            0,
            0,
        ]);
        for (kind, offset, address, len) in segments {
            image.extend(kind.to_le_bytes());
            image.extend(7_u32.to_le_bytes());
            for value in [offset, address, address, len, len, 4] {
                image.extend(value.to_le_bytes());
            }
        }
        image.resize(NOTE as usize, 0);
        for word in [4, 4, 18, u32::from_le_bytes(*b"Xen\0"), CODE as u32] {
            image.extend(word.to_le_bytes());
        }
        image.resize(FILE as usize, 0);
        image.extend(&self.code);
        image.extend(&self.text);
        image
    }
}

/// What a process has.
#[derive(Debug, Clone, Copy)]
pub struct Belongings {
    pub descriptors: usize,
    pub threads: usize,
    /// Memory that is its own, with what the guest has touched, in KiB.
    pub kib: u64,
}

/// A monitor with its guest. Ended when it is dropped.
pub struct Guest {
    dir: tempfile::TempDir,
    child: Child,
    words: Vec<String>,
}

fn spawn(words: &[String], errors: File) -> Child {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).stdin(Stdio::null());
    command
        .stdout(Stdio::null())
        .stderr(errors)
        .spawn()
        .unwrap()
}

impl Guest {
    /// Starts the monitor with more lines of configuration.
    pub fn start(program: &Program, more: &str) -> Self {
        Self::start_with_kernel(&program.elf(), more)
    }

    /// Starts the monitor by another program.
    pub fn start_under(prefix: &[&str], program: &Program, more: &str) -> Self {
        Self::launch(prefix, &program.elf(), more)
    }

    /// Starts the monitor with these bytes as the kernel.
    pub fn start_with_kernel(kernel: &[u8], more: &str) -> Self {
        Self::launch(&[], kernel, more)
    }

    fn launch(prefix: &[&str], kernel: &[u8], more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        fs::write(path("kernel"), kernel).unwrap();
        let vcpus = if more.contains("vcpus:") {
            ""
        } else {
            "vcpus: {count: 1}"
        };
        let boot = if more.starts_with("boot:") {
            String::new()
        } else {
            format!("boot: {{kernel: {}}}", path("kernel"))
        };
        let config = format!(
            "name: test\nuuid: 7b3f0f9c-5f0e-4d5a-9a54-0c8ad6c7d0a1\nmemory: {{size: 16777216}}\n{vcpus}\n\
             {boot}\nserial: {{pty: true, log: {}}}\ncontrol: {}\nstate: {}\n{more}\n",
            path("log"),
            path("control"),
            path("state"),
        );
        fs::write(path("config"), config).unwrap();
        let errors = File::create(path("errors")).unwrap();
        let mut words: Vec<_> = prefix.iter().map(ToString::to_string).collect();
        words.extend([env!("CARGO_BIN_EXE_vireo-vmm").into(), "--config".into()]);
        words.push(path("config"));
        let child = spawn(&words, errors);
        Self { dir, child, words }
    }

    /// Starts another monitor in the same place, as the same guest, once the last one has ended.
    pub fn start_again(&mut self) {
        assert!(self.child.try_wait().unwrap().is_some());
        let errors = File::create(self.path("errors")).unwrap();
        self.child = spawn(&self.words, errors);
    }

    /// The process that was started: the monitor, unless it runs under something else.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What the monitor has; only root may look.
    pub fn belongings(&self) -> Option<Belongings> {
        let proc = PathBuf::from(format!("/proc/{}", self.pid()));
        let count = |name: &str| fs::read_dir(proc.join(name)).ok().map(Iterator::count);
        let status = fs::read_to_string(proc.join("status")).ok()?;
        let mut lines = status.lines();
        let kib = lines.find_map(|line| line.strip_prefix("RssAnon:"))?;
        Some(Belongings {
            descriptors: count("fd")?,
            threads: count("task")?,
            kib: kib.split_whitespace().next()?.parse().ok()?,
        })
    }

    /// Ends the monitor without warning.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Everything on the serial console so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Everything on the error stream so far.
    pub fn errors(&self) -> String {
        fs::read_to_string(self.path("errors")).unwrap_or_default()
    }

    /// The last line of the state file.
    pub fn last_words(&self) -> Value {
        let text = fs::read_to_string(self.path("state")).unwrap_or_default();
        text.lines()
            .last()
            .and_then(|line| serde_json::from_str(line).ok())
            .unwrap_or(Value::Null)
    }

    /// Waits until the guest has said at least this.
    pub fn hear(&mut self, text: &str) {
        self.until(text, |guest| guest.log().starts_with(text));
    }

    pub fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(
                Instant::now() < end,
                "waited in vain for {what:?}; log {:?}, errors {:?}",
                self.log(),
                self.errors()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits for the monitor's end.
    pub fn wait(&mut self) -> ExitStatus {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(
                Instant::now() < end,
                "the monitor does not end; log {:?}, errors {:?}",
                self.log(),
                self.errors()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        self.signal(libc::SIGTERM);
    }

    /// Sends a signal. One that has just ended is not there to get it.
    pub fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.child.id()).unwrap();
        // SAFETY: the call takes two numbers; the process is our child and has not been waited for, so that the number is its own.
        unsafe { libc::kill(pid, signal) };
    }

    pub fn client(&mut self) -> Client {
        self.until("running", |g| {
            g.last_words()["state"] != "starting" && !g.last_words().is_null()
        });
        let stream = UnixStream::connect(self.path("control")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client {
            reader: BufReader::new(stream.try_clone().unwrap()),
            writer: stream,
            number: 0,
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client of the control socket.
pub struct Client {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
    number: u64,
}

impl Client {
    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    fn exchange(&mut self, mut request: Value) -> Value {
        self.number += 1;
        request["id"] = json!(self.number);
        self.writer
            .write_all(format!("{request}\n").as_bytes())
            .unwrap();
        loop {
            let line = self.line();
            if line["event"].is_null() {
                assert_eq!(line["id"], self.number, "{line}");
                return line;
            }
        }
    }

    /// Does a request that must be granted.
    pub fn request(&mut self, request: Value) -> Value {
        let answer = self.exchange(request.clone());
        assert!(answer["ok"].is_object(), "{request}: {answer}");
        answer["ok"].clone()
    }

    /// Does a request without arguments that must be granted.
    pub fn ask(&mut self, what: &str) -> Value {
        self.request(json!({ "do": what }))
    }

    /// Does a request that must be refused.
    pub fn refused(&mut self, request: Value) -> Value {
        let answer = self.exchange(request.clone());
        assert!(answer["error"].is_object(), "{request}: {answer}");
        answer["error"].clone()
    }

    /// The next event.
    pub fn event(&mut self) -> Value {
        let line = self.line();
        assert!(line["event"].is_string(), "{line}");
        line
    }
}
