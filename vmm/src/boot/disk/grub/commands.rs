//! GRUB's commands, as far as they decide what is booted.
//!
//! In come a command's words; out goes how it went, and what it changed is in the [`Grub`]. A command that is not here fails, which is what those that want a screen, a key or a
//! network do.

use super::super::bls;
use super::condition::{self, Files};
use super::{Flow, Grub, GrubError, Item, LOOK, bounded, environment};

impl Grub<'_> {
    pub(super) fn command(&mut self, words: &[String]) -> Result<Flow, GrubError> {
        let Some((name, arguments)) = words.split_first() else {
            return Ok(Flow::On(true));
        };
        if let Some(body) = self.functions.get(name).cloned() {
            return Ok(match self.within(|grub| grub.run(&body))? {
                Flow::Return(well) => Flow::On(well),
                flow => flow,
            });
        }
        let done = match name.as_str() {
            "!" => {
                return Ok(match self.command(arguments)? {
                    Flow::On(well) => Flow::On(!well),
                    flow => flow,
                });
            }
            "[" => condition::holds(
                arguments
                    .strip_suffix(&["]".to_owned()])
                    .unwrap_or(arguments),
                self,
            ),
            "test" => condition::holds(arguments, self),
            "set" | "export" => {
                for (name, value) in arguments.iter().filter_map(|word| word.split_once('=')) {
                    self.set(name, value);
                }
                true
            }
            "unset" => {
                for name in arguments {
                    self.variables.remove(name);
                }
                true
            }
            "return" => {
                return Ok(Flow::Return(
                    arguments.first().is_none_or(|code| code == "0"),
                ));
            }
            "source" | "." => return self.source(arguments),
            "configfile" => {
                if let Some(file) = arguments.first().and_then(|path| self.locate(path)) {
                    self.path = file.path;
                }
                return Ok(match self.source(arguments)? {
                    Flow::On(false) => Flow::On(false),
                    _ => Flow::Over,
                });
            }
            "load_env" => self.load_env(arguments),
            "search" => self.search(arguments),
            "search.fs_uuid" | "search.fs_label" | "search.file" => {
                self.search_short(name, arguments)
            }
            "blscfg" => self.add_loader_entries(),
            "linux" | "linuxefi" | "linux16" => self.take_linux(arguments),
            "initrd" | "initrdefi" | "initrd16" => {
                self.initrds = arguments
                    .iter()
                    .filter(|word| !word.starts_with("--"))
                    .cloned()
                    .collect();
                true
            }
            "true" | "insmod" | "echo" | "save_env" | ":" => true,
            word => match word.split_once('=') {
                Some((name, value)) => {
                    self.set(name, value);
                    true
                }
                None => false,
            },
        };
        Ok(Flow::On(done))
    }

    /// Another file's commands; one that is not there is no more than a failure.
    fn source(&mut self, arguments: &[String]) -> Result<Flow, GrubError> {
        let Some(file) = arguments.first().and_then(|path| self.locate(path)) else {
            return Ok(Flow::On(false));
        };
        match self.read(&file) {
            Ok(Flow::Return(well)) => Ok(Flow::On(well)),
            Err(GrubError::Read { .. }) => Ok(Flow::On(false)),
            done => done,
        }
    }

    fn load_env(&mut self, arguments: &[String]) -> bool {
        let mut words = arguments.iter();
        let mut path = format!("{}/grubenv", self.value("prefix"));
        let mut only = Vec::new();
        while let Some(word) = words.next() {
            match word.as_str() {
                "-f" | "--file" => path = words.next().cloned().unwrap_or_default(),
                word if word.starts_with("--file=") => word[7..].clone_into(&mut path),
                word if word.starts_with('-') => {}
                word => only.push(word.to_owned()),
            }
        }
        let file = self.locate(&path);
        let Some(Ok(bytes)) = file.map(|file| self.bytes(&file, environment::MOST_BYTES)) else {
            return false;
        };
        for (name, value) in environment::parse(&bytes) {
            if only.is_empty() || only.contains(&name) {
                self.set(&name, &value);
            }
        }
        true
    }

    fn search(&mut self, arguments: &[String]) -> bool {
        let mut by = "file";
        let mut variable = "root";
        let mut name = None;
        let mut words = arguments.iter().map(String::as_str);
        while let Some(word) = words.next() {
            match word {
                "-u" | "--fs-uuid" => by = "uuid",
                "-l" | "--label" | "--fs-label" => by = "label",
                "-f" | "--file" => by = "file",
                "--hint" | "--hint-bios" | "--hint-efi" | "--hint-baremetal"
                | "--hint-ieee1275" => {
                    words.next();
                }
                word if word.starts_with("--set=") => variable = &word[6..],
                word if word.starts_with('-') => {}
                word => name = name.or(Some(word)),
            }
        }
        name.is_some_and(|name| self.search_for(by, name, variable))
    }

    /// `search.fs_uuid NAME VARIABLE HINT…` and the like.
    fn search_short(&mut self, command: &str, arguments: &[String]) -> bool {
        let by = match command {
            "search.fs_uuid" => "uuid",
            "search.fs_label" => "label",
            _ => "file",
        };
        let Some((name, rest)) = arguments.split_first() else {
            return false;
        };
        let variable = rest.first().map_or("root", String::as_str);
        self.search_for(by, name, variable)
    }

    fn search_for(&mut self, by: &str, name: &str, variable: &str) -> bool {
        self.take_steps(LOOK);
        let found = self.volumes.iter().find(|volume| match by {
            "uuid" => volume.files.uuid().eq_ignore_ascii_case(name),
            "label" => volume.files.label() == name,
            _ => {
                self.take_steps(LOOK);
                volume.files.open(name).is_ok()
            }
        });
        let Some(volume) = found else { return false };
        self.set(variable, &volume.device());
        true
    }

    fn take_linux(&mut self, arguments: &[String]) -> bool {
        let Some((path, arguments)) = arguments.split_first() else {
            return false;
        };
        self.linux = Some((path.clone(), bounded(&arguments.join(" ")).to_owned()));
        self.initrds.clear();
        true
    }

    /// Fedora's `blscfg`: the loader entries of the root or boot file system become the menu.
    fn add_loader_entries(&mut self) -> bool {
        let devices = [self.value("boot"), self.value("root")]
            .map(|device| device.trim_matches(['(', ')']).to_owned());
        for device in devices {
            let Some(volume) = self.volumes.iter().find(|volume| volume.is_called(&device)) else {
                continue;
            };
            for directory in bls::DIRECTORIES {
                let (mut entries, _) = bls::entries(volume, directory);
                if entries.is_empty() {
                    continue;
                }
                bls::by_name(&mut entries);
                for entry in entries {
                    let device = device.clone();
                    self.add(Item::Loader { entry, device });
                }
                return true;
            }
        }
        false
    }
}

impl Files for Grub<'_> {
    fn is(&self, kind: u8, path: &str) -> bool {
        self.take_steps(LOOK);
        let Some(file) = self.locate(path) else {
            return false;
        };
        let Some(volume) = self.volumes.get(file.volume) else {
            return false;
        };
        let length = || volume.files.open(&file.path).ok().map(|open| open.len());
        let directory = || volume.files.list(&file.path).is_ok();
        match kind {
            b's' => length().is_some_and(|length| length > 0),
            b'f' => length().is_some(),
            b'd' => directory(),
            _ => length().is_some() || directory(),
        }
    }
}
