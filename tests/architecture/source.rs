//! The crate's own source as tokens, and the questions that the rules ask about it.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, Group, Span, TokenStream, TokenTree};

/// A line that goes against a rule.
pub struct Offence {
    path: PathBuf,
    line: usize,
    what: String,
}

impl fmt::Display for Offence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "src/{}:{}: {}", self.path.display(), self.line, self.what)
    }
}

/// One file without its tests, as a flat run of tokens.
pub struct SourceFile {
    path: PathBuf,
    pub room: String,
    pub tokens: Vec<Token>,
    /// Name, first line and number of lines of each function.
    pub functions: Vec<(String, usize, usize)>,
    pub lines: usize,
}

/// A token and its line.
pub struct Token {
    pub line: usize,
    pub kind: Kind,
}

/// What a token is.
#[derive(PartialEq)]
pub enum Kind {
    Word(String),
    Punct(char),
    Literal(String),
    Open(Delimiter),
    Close(Delimiter),
}

impl SourceFile {
    /// Reads the text of the file at `path`, which is relative to `src`.
    pub fn read(path: &Path, text: &str) -> Self {
        let stream: TokenStream = match text.parse() {
            Ok(stream) => stream,
            Err(error) => panic!("src/{}: {error}", path.display()),
        };
        let room = path.iter().next().map(Path::new).and_then(Path::file_stem).unwrap_or_default();
        let mut file = SourceFile {
            path: path.to_owned(),
            room: room.to_string_lossy().into_owned(),
            tokens: Vec::new(),
            functions: Vec::new(),
            lines: text.trim().lines().count(),
        };
        file.flatten(stream);
        file
    }

    /// Appends all tokens but those of attributes and of test modules.
    fn flatten(&mut self, stream: TokenStream) {
        let trees: Vec<TokenTree> = stream.into_iter().collect();
        let mut index = 0;
        while let Some(tree) = trees.get(index) {
            index += 1;
            if let Some((after, group)) = attribute(&trees, index, tree) {
                index = after;
                if is_cfg_test(group)
                    && let Some(after) = self.skip_module(&trees, index, tree.span())
                {
                    index = after;
                } else if !is_doc(group) {
                    self.flatten(group.stream());
                }
                continue;
            }
            if is_word(tree, "fn") {
                self.measure_function(&trees[index..], tree.span());
            }
            self.push(tree);
        }
    }

    fn push(&mut self, tree: &TokenTree) {
        let line = tree.span().start().line;
        let kind = match tree {
            TokenTree::Ident(ident) => Kind::Word(ident.to_string()),
            TokenTree::Punct(punct) => Kind::Punct(punct.as_char()),
            TokenTree::Literal(literal) => Kind::Literal(literal.to_string()),
            TokenTree::Group(group) => {
                self.tokens.push(Token { line, kind: Kind::Open(group.delimiter()) });
                self.flatten(group.stream());
                Kind::Close(group.delimiter())
            }
        };
        self.tokens.push(Token { line, kind });
    }

    /// Where the tokens go on after an inline module that began at the attribute in `span`.
    fn skip_module(&mut self, trees: &[TokenTree], from: usize, span: Span) -> Option<usize> {
        let length = trees[from..].iter().position(|tree| {
            matches!(tree, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace)
                || matches!(tree, TokenTree::Punct(punct) if punct.as_char() == ';')
        })?;
        let last = trees.get(from + length)?;
        self.lines = self.lines.saturating_sub(height(span, last.span()));
        Some(from + length + 1)
    }

    fn measure_function(&mut self, rest: &[TokenTree], start: Span) {
        let Some(TokenTree::Ident(name)) = rest.first() else { return };
        for tree in rest {
            match tree {
                TokenTree::Punct(punct) if punct.as_char() == ';' => return,
                TokenTree::Group(body) if body.delimiter() == Delimiter::Brace => {
                    let lines = height(start, body.span());
                    self.functions.push((name.to_string(), start.start().line, lines));
                    return;
                }
                _ => {}
            }
        }
    }

    /// Whether this is one of the modules `homes` (paths without `.rs`) or lies below one.
    pub fn is_one_of(&self, homes: &[&str]) -> bool {
        homes.iter().any(|home| self.path.with_extension("").starts_with(home))
    }

    /// An offence on a line of this file.
    pub fn offence(&self, line: usize, what: impl Into<String>) -> Offence {
        Offence { path: self.path.clone(), line, what: what.into() }
    }

    /// How many `super` lead from this file to the crate's root.
    fn depth(&self) -> usize {
        let parts = self.path.iter().count();
        if self.path.ends_with("mod.rs") { parts - 1 } else { parts }
    }

    /// Every room that a path from the crate's root leads to, with the line.
    pub fn rooms_used(&self) -> Vec<(usize, String)> {
        let mut used = Vec::new();
        let mut supers = 0;
        for (index, token) in self.tokens.iter().enumerate() {
            let at_root = match &token.kind {
                Kind::Word(word) if word == "crate" => true,
                Kind::Word(word) if word == "super" => {
                    supers += 1;
                    supers == self.depth()
                }
                Kind::Punct(':') => continue,
                _ => {
                    supers = 0;
                    continue;
                }
            };
            if at_root {
                used.extend(self.heads_after(index + 1));
            }
        }
        used
    }

    /// The first words of the path, or of all paths of the group, that follows `::`.
    fn heads_after(&self, index: usize) -> Vec<(usize, String)> {
        let mut heads = Vec::new();
        if !self.is_separator(index) {
            return heads;
        }
        let mut level = 0usize;
        let mut at_head = true;
        for token in &self.tokens[index + 2..] {
            match &token.kind {
                Kind::Open(Delimiter::Brace) => level += 1,
                Kind::Close(Delimiter::Brace) => level -= 1,
                Kind::Punct(',') if level == 1 => at_head = true,
                Kind::Word(word) if at_head && level <= 1 => {
                    heads.push((token.line, word.clone()));
                    at_head = false;
                }
                _ => {}
            }
            if level == 0 {
                break;
            }
        }
        heads
    }

    fn is_separator(&self, index: usize) -> bool {
        let punct = |at: usize| self.tokens.get(at).is_some_and(|t| t.kind == Kind::Punct(':'));
        punct(index) && punct(index + 1)
    }

    /// The word that follows the word at `index` and `::`.
    pub fn path_after(&self, index: usize) -> Option<&str> {
        let after = self.tokens.get(index + 3).filter(|_| self.is_separator(index + 1))?;
        match &after.kind {
            Kind::Word(word) => Some(word),
            _ => None,
        }
    }

    /// Lines on which the words of `path` stand, joined by `::`.
    pub fn find<'a>(&'a self, path: &'a [&str]) -> impl Iterator<Item = usize> + 'a {
        self.find_indexed(path).map(|(_, line)| line)
    }

    /// Places among the tokens, and lines, of the words of `path`, joined by `::`.
    pub fn find_indexed<'a>(
        &'a self,
        path: &'a [&str],
    ) -> impl Iterator<Item = (usize, usize)> + 'a {
        self.tokens.iter().enumerate().filter_map(move |(index, token)| {
            let matches = path.iter().enumerate().all(|(step, word)| {
                let at = index + 3 * step;
                let linked = step == 0 || self.is_separator(at - 2);
                linked && matches!(self.tokens.get(at), Some(t) if t.kind == Kind::Word((*word).to_owned()))
            });
            matches.then_some((index, token.line))
        })
    }

    /// Whether the type at `index` is followed by `{` as a value, not as a declaration or as the
    /// result of a function.
    pub fn opens_literal(&self, index: usize) -> bool {
        let opens =
            matches!(self.tokens.get(index + 1), Some(t) if t.kind == Kind::Open(Delimiter::Brace));
        let mut start = index;
        while start >= 3 && self.is_separator(start - 2) {
            start -= 3;
        }
        let before = start.checked_sub(1).and_then(|at| self.tokens.get(at));
        let declares = before.is_some_and(|token| match &token.kind {
            Kind::Word(word) => ["struct", "impl", "for", "let"].contains(&word.as_str()),
            Kind::Punct(c) => ['>', '&'].contains(c),
            _ => false,
        });
        opens && !declares
    }
}

/// If `tree` begins an attribute: where the tokens go on after it, and what is in its brackets.
fn attribute<'t>(
    trees: &'t [TokenTree],
    next: usize,
    tree: &TokenTree,
) -> Option<(usize, &'t Group)> {
    if !matches!(tree, TokenTree::Punct(punct) if punct.as_char() == '#') {
        return None;
    }
    let inner = matches!(trees.get(next), Some(TokenTree::Punct(punct)) if punct.as_char() == '!');
    let at = next + usize::from(inner);
    match trees.get(at) {
        Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Bracket => {
            Some((at + 1, group))
        }
        _ => None,
    }
}

fn is_cfg_test(attribute: &Group) -> bool {
    attribute.stream().to_string().replace(' ', "") == "cfg(test)"
}

fn is_doc(attribute: &Group) -> bool {
    attribute.stream().into_iter().next().is_some_and(|tree| is_word(&tree, "doc"))
}

fn is_word(tree: &TokenTree, word: &str) -> bool {
    matches!(tree, TokenTree::Ident(ident) if ident == word)
}

fn height(first: Span, last: Span) -> usize {
    last.end().line - first.start().line + 1
}

/// Every source file of the library but the map, without files of test modules.
pub fn source_files() -> Vec<SourceFile> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    collect(&root, &mut paths);
    paths.sort();
    let library = paths.iter().filter_map(|path| path.strip_prefix(&root).ok()).filter(|path| {
        let is_test = path.iter().any(|part| part == "tests" || part == "tests.rs");
        !is_test && *path != Path::new("lib.rs") && *path != Path::new("main.rs")
    });
    library.map(|path| SourceFile::read(path, &read(&root.join(path)))).collect()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => panic!("{}: {error}", folder.display()),
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}

fn read(path: &Path) -> String {
    match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => panic!("{}: {error}", path.display()),
    }
}
