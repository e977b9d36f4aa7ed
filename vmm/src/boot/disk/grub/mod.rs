//! What GRUB would boot: `grub.cfg`, carried out as far as it decides that.
//!
//! In come the disk's volumes and where the configuration is; out goes the default entry's kernel, initrds and arguments. Of GRUB's commands those have an effect here that set
//! variables, decide, find file systems, read other files, make the menu, and name what is booted; the others do nothing, and those that need a screen, a keyboard or a
//! network fail where their success is asked for. A configuration is a stranger's program: what it does is counted, and ends.

mod commands;
mod condition;
pub(super) mod environment;
mod script;

use std::cell::Cell;
use std::collections::HashMap;

use thiserror::Error;

use super::bls;
use super::choose::{Choice, File, Volume};
use super::filesystem::FileError;
use script::{Block, Part, Statement, Word};

/// Steps that are taken, at most: a command is one, and so are so many bytes of its words.
const MOST_STEPS: u32 = 200_000;
const STEP: usize = 256;
/// Steps that looking at a file costs.
const LOOK: u32 = 200;
/// Files, functions and submenus within one another, at most.
const DEEPEST: u32 = 12;
/// Bytes of one configuration, at most.
const MOST_BYTES: u64 = 1 << 20;
/// Bytes of a variable or of a word, at most.
const MOST_VALUE: usize = 8 << 10;
/// Bytes of all words of a command, at most.
const MOST_WORDS: usize = 64 << 10;
/// Variables, at most; the same for the menu's entries.
const MOST_NAMES: usize = 4096;

/// Why a configuration boots nothing.
#[derive(Debug, Error)]
pub(super) enum GrubError {
    /// The configuration itself.
    #[error("{path} {why}")]
    Read { path: String, why: FileError },
    /// Blocks nested too deep.
    #[error("{path} is not read: {why}")]
    Parse { path: String, why: script::TooDeep },
    /// It does not come to an end.
    #[error("{0} does too much, or leads back to itself")]
    Endless(String),
    /// There is no entry in it.
    #[error("{0} has no menu entry")]
    Empty(String),
    /// The entry starts something else.
    #[error("its default entry {0:?} starts no Linux kernel")]
    NoLinux(String),
    /// A file of the entry is on no file system of this disk.
    #[error(
        "its default entry {entry:?} names {path}, which is on no file system of this disk that can be read"
    )]
    Nowhere { entry: String, path: String },
}

/// What the configuration at `path` of a volume boots.
pub(super) fn boot(volumes: &[Volume], at: &File) -> Result<Choice, GrubError> {
    let mut grub = Grub::new(volumes, at);
    grub.read(at)?;
    let default = grub.value("default").to_owned();
    let entry = grub.pick(&default, 0)?;
    let Some((path, arguments)) = grub.linux.take() else {
        return Err(GrubError::NoLinux(entry));
    };
    let initrds = std::mem::take(&mut grub.initrds);
    let place = |path: String| {
        let file = grub.locate(&path);
        file.ok_or_else(|| GrubError::Nowhere {
            entry: entry.clone(),
            path,
        })
    };
    Ok(Choice {
        kernel: place(path)?,
        initrds: initrds.into_iter().map(place).collect::<Result<_, _>>()?,
        arguments,
        entry,
        configuration: grub.path,
    })
}

/// How commands went: on, with the last one's success, or to the end of a file or function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    On(bool),
    Return(bool),
    /// Another configuration took this one's place.
    Over,
}

/// A line of the menu.
enum Item {
    Entry {
        title: String,
        id: String,
        body: Block,
    },
    Submenu {
        title: String,
        id: String,
        body: Block,
    },
    Loader {
        entry: bls::Entry,
        device: String,
    },
}

impl Item {
    fn is(&self, name: &str) -> bool {
        match self {
            Self::Entry { title, id, .. } | Self::Submenu { title, id, .. } => {
                id == name || title == name
            }
            Self::Loader { entry, .. } => entry.id == name || entry.title == name,
        }
    }
}

struct Grub<'a> {
    volumes: &'a [Volume],
    /// The configuration's path, for messages.
    path: String,
    variables: HashMap<String, String>,
    functions: HashMap<String, Block>,
    menu: Vec<Item>,
    /// The kernel's path and arguments.
    linux: Option<(String, String)>,
    initrds: Vec<String>,
    steps: Cell<u32>,
    depth: u32,
}

impl<'a> Grub<'a> {
    fn new(volumes: &'a [Volume], at: &File) -> Self {
        let device = volumes
            .get(at.volume)
            .map(Volume::device)
            .unwrap_or_default();
        let (directory, _) = at.path.rsplit_once('/').unwrap_or_default();
        let prefix = format!("({device}){directory}");
        let known = [
            ("root", device.as_str()),
            ("prefix", &prefix),
            ("cmdpath", &prefix),
            ("config_directory", &prefix),
            ("grub_cpu", "x86_64"),
            ("grub_platform", "pc"),
            ("feature_200_final", "y"),
            ("feature_chainloader_bpb", "y"),
            ("feature_default_font_path", "y"),
            ("feature_menuentry_id", "y"),
            ("feature_menuentry_options", "y"),
            ("feature_nativedisk_cmd", "y"),
            ("feature_ntldr", "y"),
            ("feature_platform_search_hint", "y"),
            ("feature_timeout_style", "y"),
        ];
        Self {
            volumes,
            path: at.path.clone(),
            variables: known
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            functions: HashMap::new(),
            menu: Vec::new(),
            linux: None,
            initrds: Vec::new(),
            steps: Cell::new(0),
            depth: 0,
        }
    }

    // --- files ---

    /// The file that a path of the configuration names.
    fn locate(&self, text: &str) -> Option<File> {
        let (device, path) = match text.strip_prefix('(') {
            Some(rest) => rest.split_once(')')?,
            None => ("", text),
        };
        let device = if device.is_empty() {
            self.value("root")
        } else {
            device
        };
        Some(File {
            volume: self
                .volumes
                .iter()
                .position(|volume| volume.is_called(device))?,
            path: format!("/{}", path.trim_start_matches('/')),
        })
    }

    fn bytes(&self, file: &File, limit: u64) -> Result<Vec<u8>, FileError> {
        self.take_steps(LOOK);
        let volume = self.volumes.get(file.volume).ok_or(FileError::Missing)?;
        volume.files.read(&file.path, limit)
    }

    /// Carries out a configuration.
    fn read(&mut self, file: &File) -> Result<Flow, GrubError> {
        let path = || file.path.clone();
        let bytes = self
            .bytes(file, MOST_BYTES)
            .map_err(|why| GrubError::Read { path: path(), why })?;
        let block = script::parse(&String::from_utf8_lossy(&bytes))
            .map_err(|why| GrubError::Parse { path: path(), why })?;
        self.within(|grub| grub.run(&block))
    }

    /// Goes one deeper.
    fn within<T>(
        &mut self,
        act: impl FnOnce(&mut Self) -> Result<T, GrubError>,
    ) -> Result<T, GrubError> {
        if self.depth >= DEEPEST {
            return Err(self.endless());
        }
        self.depth += 1;
        let done = act(self);
        self.depth -= 1;
        done
    }

    fn endless(&self) -> GrubError {
        GrubError::Endless(self.path.clone())
    }

    // --- variables ---

    fn value(&self, name: &str) -> &str {
        self.variables.get(name).map_or("", String::as_str)
    }

    fn set(&mut self, name: &str, value: &str) {
        let known = self.variables.contains_key(name);
        if (known || self.variables.len() < MOST_NAMES) && name.len() <= MOST_VALUE {
            let value = bounded(value);
            self.variables.insert(name.to_owned(), value.to_owned());
        }
    }

    /// What words stand for: each for one word or several or none, since a variable outside quotes is split. What is beyond the limits is cut off.
    fn expand(&self, words: &[Word]) -> Vec<String> {
        let mut found = Vec::new();
        let mut left = MOST_WORDS;
        for word in words {
            let mut current = word.quoted.then(String::new);
            for part in &word.parts {
                let (text, split) = match part {
                    Part::Text(text) => (text.as_str(), false),
                    Part::Variable { name, quoted } => (self.value(name), !quoted),
                };
                left = left.saturating_sub(text.len() + 1);
                if left == 0 {
                    break;
                }
                if !split {
                    current.get_or_insert_default().push_str(text);
                    continue;
                }
                let mut pieces = text.split([' ', '\t', '\n']);
                if let Some(first) = pieces.next().filter(|first| !first.is_empty()) {
                    current.get_or_insert_default().push_str(first);
                }
                for piece in pieces {
                    found.extend(current.take());
                    current = (!piece.is_empty()).then(|| piece.to_owned());
                }
            }
            found.extend(current);
        }
        for word in &mut found {
            word.truncate(bounded(word).len());
        }
        self.take_steps(u32::try_from((MOST_WORDS - left) / STEP).unwrap_or(u32::MAX));
        found
    }

    fn take_steps(&self, steps: u32) {
        self.steps.set(self.steps.get().saturating_add(steps));
    }

    // --- statements ---

    fn run(&mut self, block: &Block) -> Result<Flow, GrubError> {
        let mut last = Flow::On(true);
        for statement in block.iter() {
            self.take_steps(1);
            if self.steps.get() > MOST_STEPS {
                return Err(self.endless());
            }
            last = self.statement(statement)?;
            if !matches!(last, Flow::On(_)) {
                break;
            }
        }
        Ok(last)
    }

    fn statement(&mut self, statement: &Statement) -> Result<Flow, GrubError> {
        match statement {
            Statement::Command(words) => {
                let words = self.expand(words);
                self.command(&words)
            }
            Statement::If { arms, otherwise } => {
                for (condition, body) in arms {
                    match self.run(condition)? {
                        Flow::On(true) => return self.run(body),
                        Flow::On(false) => {}
                        left => return Ok(left),
                    }
                }
                self.run(otherwise)
            }
            Statement::Entry {
                submenu,
                words,
                body,
            } => {
                let words = self.expand(words);
                self.add_entry(*submenu, &words, body);
                Ok(Flow::On(true))
            }
            Statement::Function { name, body } => {
                if self.functions.len() < MOST_NAMES {
                    self.functions.insert(name.clone(), Block::clone(body));
                }
                Ok(Flow::On(true))
            }
            Statement::For { name, values, body } => {
                for value in self.expand(values) {
                    self.set(name, &value);
                    let flow = self.run(body)?;
                    if !matches!(flow, Flow::On(_)) {
                        return Ok(flow);
                    }
                }
                Ok(Flow::On(true))
            }
            Statement::Loop => Ok(Flow::On(true)),
        }
    }

    fn add_entry(&mut self, submenu: bool, words: &[String], body: &Block) {
        let mut title = None;
        let mut id = String::new();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--id" => id = words.next().cloned().unwrap_or_default(),
                "--class" | "--users" | "--hotkey" | "--source" => drop(words.next()),
                word if word.starts_with("--id=") => word[5..].clone_into(&mut id),
                word if word.starts_with("--") => {}
                word => title = title.or_else(|| Some(word.to_owned())),
            }
        }
        let (title, body) = (title.unwrap_or_default(), Block::clone(body));
        self.add(match submenu {
            true => Item::Submenu { title, id, body },
            false => Item::Entry { title, id, body },
        });
    }

    fn add(&mut self, item: Item) {
        if self.menu.len() < MOST_NAMES {
            self.menu.push(item);
        }
    }

    // --- the menu ---

    /// Opens the default entry of the menu, by number, title or id, and through submenus; says its title.
    fn pick(&mut self, default: &str, level: u32) -> Result<String, GrubError> {
        let menu = std::mem::take(&mut self.menu);
        let (first, below) = first_step(default);
        let number = first
            .parse()
            .ok()
            .filter(|&number: &usize| number < menu.len());
        let named = || menu.iter().position(|item| item.is(&first));
        // Where the default is gone, GRUB takes the first entry.
        let index = number.or_else(named).unwrap_or(0);
        match menu.get(index) {
            None => Err(GrubError::Empty(self.path.clone())),
            Some(Item::Entry { title, body, .. }) => {
                self.set("chosen", title);
                self.within(|grub| grub.run(body))?;
                Ok(title.clone())
            }
            Some(Item::Submenu { title, body, .. }) => {
                if level >= DEEPEST {
                    return Err(self.endless());
                }
                self.within(|grub| grub.run(body))?;
                let entry = self.pick(below, level + 1)?;
                Ok(format!("{title}>{entry}"))
            }
            Some(Item::Loader { entry, device }) => {
                let value = |name: &str| self.value(name).to_owned();
                let options = bls::substitute(&entry.options, value);
                let initrds = bls::substitute(&entry.initrds, value);
                let place = |path: &str| format!("({device})/{}", path.trim_start_matches('/'));
                self.initrds = initrds.split_whitespace().map(place).collect();
                self.linux = Some((place(&entry.linux), options));
                let title = if entry.title.is_empty() {
                    &entry.id
                } else {
                    &entry.title
                };
                Ok(title.clone())
            }
        }
    }
}

/// A submenu's part of a default and what is below it: `a>b`, in which `>>` is a `>` of a title.
fn first_step(default: &str) -> (String, &str) {
    let mut first = String::new();
    let mut rest = default.char_indices().peekable();
    while let Some((at, c)) = rest.next() {
        if c == '>' && rest.next_if(|&(_, next)| next == '>').is_none() {
            return (first, default.get(at + 1..).unwrap_or_default());
        }
        first.push(c);
    }
    (first, "")
}

/// As much of a text as is kept.
fn bounded(text: &str) -> &str {
    let mut end = text.len().min(MOST_VALUE);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}
