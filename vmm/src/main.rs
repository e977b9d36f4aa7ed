//! One KVM guest in one process.
use vireo_vmm::{config::Guest, console::Console, machine::Machine, notice};
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).unwrap_or_default();
    let guest = Guest::parse(&std::fs::read_to_string(path)?)?;
    let (notifier, notices) = notice::channel()?;
    let mut console = Console::open(&guest.serial, &guest.control.with_file_name("console"))?;
    let mut machine = Machine::build(&guest, &console, &notifier)?;
    machine.start(|| {})?;
    machine.run();
    loop {
        std::thread::sleep(std::time::Duration::from_millis(20));
        console.pump();
        for notice in notices.drain() {
            println!("{notice}");
            if notice == notice::Notice::Reset {
                machine.pause();
                machine.reset()?;
                machine.run();
            } else {
                return Ok(());
            }
        }
    }
}
