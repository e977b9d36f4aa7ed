//! GRUB's script language, as far as generated configurations use it: from text to statements.
//!
//! In comes a configuration's text; out go its statements. Words keep apart what was quoted, since a variable is split into words where it was not. What is
//! malformed is read as far as it makes sense, as a boot loader would; only blocks nested deeper than [`DEEPEST`] are refused.

use std::rc::Rc;

/// Blocks within blocks, at most.
const DEEPEST: usize = 32;

/// A piece of a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// Characters as they are.
    Text(String),
    /// A variable, and whether its value stays one word.
    Variable { name: String, quoted: bool },
}

/// A word: its pieces, put together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Word {
    pub parts: Vec<Part>,
    /// Some of it was quoted: it is a word even if it is empty, and no keyword.
    pub quoted: bool,
}

impl Word {
    /// The word's text, if it was written without quotes and variables.
    fn plain(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [Part::Text(text)] if !self.quoted => Some(text),
            _ => None,
        }
    }
}

/// Statements, shared by whoever may carry them out later.
pub(super) type Block = Rc<[Statement]>;

/// One statement.
#[derive(Debug, Clone)]
pub(super) enum Statement {
    /// A command with its arguments.
    Command(Vec<Word>),
    /// `if`, with each condition's block, and what is done where none holds.
    If {
        arms: Vec<(Block, Block)>,
        otherwise: Block,
    },
    /// `menuentry` or `submenu`, with title and options.
    Entry {
        submenu: bool,
        words: Vec<Word>,
        body: Block,
    },
    /// `function`.
    Function { name: String, body: Block },
    /// `for`.
    For {
        name: String,
        values: Vec<Word>,
        body: Block,
    },
    /// `while` or `until`: they wait for a person or a device, and neither comes.
    Loop,
}

/// The blocks of a configuration are nested too deep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its blocks are nested more than {DEEPEST} deep")]
pub(in super::super) struct TooDeep;

/// Reads a configuration.
pub(super) fn parse(text: &str) -> Result<Block, TooDeep> {
    let mut parser = Parser {
        tokens: tokens(text).into_iter().peekable(),
    };
    let mut statements = Vec::new();
    loop {
        statements.extend(parser.block(&[], 0)?.iter().cloned());
        // An end of a block that never began is passed over.
        if parser.tokens.next().is_none() {
            return Ok(statements.into());
        }
    }
}

// --- words ---------------------------------------------------------------------------------------------------------------

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(Word),
    /// The end of a command: a line's end or a semicolon.
    End,
}

fn tokens(text: &str) -> Vec<Token> {
    let mut lexer = Lexer {
        rest: text.chars().peekable(),
        word: None,
        found: Vec::new(),
    };
    while let Some(c) = lexer.rest.next() {
        lexer.take(c);
    }
    lexer.end_word();
    lexer.found
}

struct Lexer<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    word: Option<Word>,
    found: Vec<Token>,
}

impl Lexer<'_> {
    fn take(&mut self, c: char) {
        match c {
            '#' if self.word.is_none() => while self.rest.next_if(|&c| c != '\n').is_some() {},
            '\n' | ';' => {
                self.end_word();
                self.found.push(Token::End);
            }
            c if c.is_whitespace() => self.end_word(),
            '\\' => match self.rest.next() {
                // A line that goes on.
                None | Some('\n') => {}
                Some(c) => self.push(c),
            },
            '\'' => {
                self.quote();
                while let Some(c) = self.rest.next_if(|&c| c != '\'') {
                    self.push(c);
                }
                self.rest.next();
            }
            '"' => self.double_quotes(),
            // A text that would be translated.
            '$' if self.rest.peek() == Some(&'"') => {}
            '$' => self.variable(false),
            c => self.push(c),
        }
    }

    fn double_quotes(&mut self) {
        self.quote();
        while let Some(c) = self.rest.next() {
            match c {
                '"' => break,
                '$' => self.variable(true),
                '\\' => match self.rest.next_if(|c| matches!(c, '"' | '\\' | '$' | '\n')) {
                    Some('\n') => {}
                    Some(c) => self.push(c),
                    None => self.push('\\'),
                },
                c => self.push(c),
            }
        }
    }

    fn variable(&mut self, quoted: bool) {
        let mut name = String::new();
        if self.rest.next_if_eq(&'{').is_some() {
            while let Some(c) = self.rest.next_if(|&c| !matches!(c, '}' | '\n')) {
                name.push(c);
            }
            self.rest.next_if_eq(&'}');
        } else if let Some(c) = self
            .rest
            .next_if(|c| matches!(c, '0'..='9' | '@' | '*' | '?' | '#'))
        {
            name.push(c);
        } else {
            while let Some(c) = self
                .rest
                .next_if(|&c| c.is_ascii_alphanumeric() || c == '_')
            {
                name.push(c);
            }
        }
        if name.is_empty() {
            return self.push('$');
        }
        let word = self.word.get_or_insert_default();
        word.parts.push(Part::Variable { name, quoted });
    }

    fn quote(&mut self) {
        self.word.get_or_insert_default().quoted = true;
    }

    fn push(&mut self, c: char) {
        let parts = &mut self.word.get_or_insert_default().parts;
        match parts.last_mut() {
            Some(Part::Text(text)) => text.push(c),
            _ => parts.push(Part::Text(c.into())),
        }
    }

    fn end_word(&mut self) {
        self.found.extend(self.word.take().map(Token::Word));
    }
}

// --- statements ----------------------------------------------------------------------------------------------------------

struct Parser {
    tokens: std::iter::Peekable<std::vec::IntoIter<Token>>,
}

/// Words that end a block, wherever a command may begin.
const ENDS: [&str; 7] = ["}", "then", "elif", "else", "fi", "do", "done"];

impl Parser {
    /// Statements up to one of the words that end any block, or up to one of `more`; the word is left.
    fn block(&mut self, more: &[&str], depth: usize) -> Result<Block, TooDeep> {
        if depth > DEEPEST {
            return Err(TooDeep);
        }
        let mut found = Vec::new();
        loop {
            while self.tokens.next_if_eq(&Token::End).is_some() {}
            match self.keyword() {
                Some(word) if ENDS.contains(&word) || more.contains(&word) => break,
                _ => {}
            }
            match self.statement(depth)? {
                Some(statement) => found.push(statement),
                None => break,
            }
        }
        Ok(found.into())
    }

    /// The next word, if it is written plainly.
    fn keyword(&mut self) -> Option<&str> {
        match self.tokens.peek()? {
            Token::Word(word) => word.plain(),
            Token::End => None,
        }
    }

    /// Passes over the next word if it is this one.
    fn accept(&mut self, wanted: &str) -> bool {
        while self.tokens.next_if_eq(&Token::End).is_some() {}
        let there = self.keyword() == Some(wanted);
        if there {
            self.tokens.next();
        }
        there
    }

    fn statement(&mut self, depth: usize) -> Result<Option<Statement>, TooDeep> {
        let Some(Token::Word(first)) = self.tokens.next() else {
            return Ok(None);
        };
        Ok(Some(match first.plain() {
            Some("if") => self.branches(depth)?,
            Some(kind @ ("menuentry" | "submenu")) => {
                let submenu = kind == "submenu";
                let words = self.words(true);
                let body = self.braces(depth)?;
                Statement::Entry {
                    submenu,
                    words,
                    body,
                }
            }
            Some("function") => {
                let name = self.words(true);
                let name = name.first().and_then(Word::plain).unwrap_or_default();
                let name = name.to_owned();
                let body = self.braces(depth)?;
                Statement::Function { name, body }
            }
            Some("for") => {
                let words = self.words(false);
                let name = words.first().and_then(Word::plain).unwrap_or_default();
                let body = self.loop_body(depth)?;
                Statement::For {
                    name: name.to_owned(),
                    values: words.into_iter().skip(2).collect(),
                    body,
                }
            }
            Some("while" | "until") => {
                self.block(&[], depth + 1)?;
                self.loop_body(depth)?;
                Statement::Loop
            }
            Some("{") => {
                // A block by itself is carried out as it stands.
                let body = self.block(&[], depth + 1)?;
                self.accept("}");
                let (arms, otherwise) = (Vec::new(), body);
                Statement::If { arms, otherwise }
            }
            _ => {
                let mut words = vec![first];
                words.extend(self.words(false));
                Statement::Command(words)
            }
        }))
    }

    /// The words up to the command's end, or up to a brace where one is to come.
    fn words(&mut self, brace: bool) -> Vec<Word> {
        let mut words = Vec::new();
        while let Some(Token::Word(word)) = self.tokens.next_if(|token| match token {
            Token::Word(word) => {
                !matches!(word.plain(), Some("{") if brace) && word.plain() != Some("}")
            }
            Token::End => false,
        }) {
            words.push(word);
        }
        words
    }

    fn braces(&mut self, depth: usize) -> Result<Block, TooDeep> {
        if !self.accept("{") {
            return Ok(Block::default());
        }
        let body = self.block(&[], depth + 1)?;
        self.accept("}");
        Ok(body)
    }

    fn loop_body(&mut self, depth: usize) -> Result<Block, TooDeep> {
        self.accept("do");
        let body = self.block(&[], depth + 1)?;
        self.accept("done");
        Ok(body)
    }

    fn branches(&mut self, depth: usize) -> Result<Statement, TooDeep> {
        let mut arms = Vec::new();
        let mut otherwise = Block::default();
        loop {
            let condition = self.block(&[], depth + 1)?;
            self.accept("then");
            arms.push((condition, self.block(&[], depth + 1)?));
            if self.accept("elif") {
                continue;
            }
            if self.accept("else") {
                otherwise = self.block(&[], depth + 1)?;
            }
            self.accept("fi");
            return Ok(Statement::If { arms, otherwise });
        }
    }
}
