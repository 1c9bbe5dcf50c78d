//! Just enough Rust to count: comments and literals blanked out, words and function bodies found.
//!
//! This is a lexer and not a parser: it sees every character of a file once, and what it cannot know (macros
//! that write functions) it leaves alone.

/// The source with comments and the contents of literals turned into spaces; lines stay where they are.
pub(super) fn code_only(text: &str) -> String {
    Scrubber { chars: text.chars().collect(), at: 0, out: String::with_capacity(text.len()) }.run()
}

struct Scrubber {
    chars: Vec<char>,
    at: usize,
    out: String,
}

impl Scrubber {
    fn run(mut self) -> String {
        while let Some(c) = self.peek(0) {
            match c {
                '/' if self.peek(1) == Some('/') => self.line_comment(),
                '/' if self.peek(1) == Some('*') => self.block_comment(),
                '"' => self.string(),
                '\'' => self.char_or_lifetime(),
                'r' if self.raw_hashes().is_some() => self.raw_string(),
                _ => self.keep(),
            }
        }
        self.out
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn keep(&mut self) {
        self.out.extend(self.peek(0));
        self.at += 1;
    }

    fn blank(&mut self) {
        if let Some(c) = self.peek(0) {
            self.out.push(if c == '\n' { '\n' } else { ' ' });
        }
        self.at += 1;
    }

    fn blank_n(&mut self, count: usize) {
        (0..count).for_each(|_| self.blank());
    }

    fn line_comment(&mut self) {
        while self.peek(0).is_some_and(|c| c != '\n') {
            self.blank();
        }
    }

    fn block_comment(&mut self) {
        let mut depth = 0_usize;
        while let Some(c) = self.peek(0) {
            match (c, self.peek(1)) {
                ('/', Some('*')) => depth += 1,
                ('*', Some('/')) => depth -= 1,
                _ => {
                    self.blank();
                    continue;
                }
            }
            self.blank_n(2);
            if depth == 0 {
                return;
            }
        }
    }

    fn string(&mut self) {
        self.keep();
        while let Some(c) = self.peek(0) {
            match c {
                '\\' => self.blank_n(2),
                '"' => return self.keep(),
                _ => self.blank(),
            }
        }
    }

    /// `'a'` and `'\n'` are characters, `'a` is a lifetime.
    fn char_or_lifetime(&mut self) {
        if self.peek(1) == Some('\\') {
            self.keep();
            self.blank_n(2);
            while self.peek(0).is_some_and(|c| c != '\'') {
                self.blank();
            }
        } else if self.peek(2) == Some('\'') {
            self.keep();
            self.blank();
        }
        self.keep();
    }

    /// How many `#` the raw string that begins here has; `None` if none begins here.
    fn raw_hashes(&self) -> Option<usize> {
        let before = self.at.checked_sub(1).and_then(|at| self.chars.get(at)).copied();
        if before.is_some_and(|c| is_word(c) && c != 'b' && c != 'c') {
            return None;
        }
        let hashes = (1..).take_while(|&n| self.peek(n) == Some('#')).count();
        (self.peek(1 + hashes) == Some('"')).then_some(hashes)
    }

    fn raw_string(&mut self) {
        let hashes = self.raw_hashes().unwrap_or(0);
        self.blank_n(2 + hashes);
        while let Some(c) = self.peek(0) {
            if c == '"' && (1..=hashes).all(|n| self.peek(n) == Some('#')) {
                return self.blank_n(1 + hashes);
            }
            self.blank();
        }
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The numbers of the lines of scrubbed `code` that have `word` as a word of its own.
pub(super) fn lines_with_word(code: &str, word: &str) -> Vec<usize> {
    let has = |line: &str| line.split(|c| !is_word(c)).any(|w| w == word);
    code.lines().enumerate().filter(|(_, line)| has(line)).map(|(index, _)| index + 1).collect()
}

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Function {
    /// Its name.
    pub(super) name: String,
    /// The line of its name.
    pub(super) line: usize,
    /// Lines between its braces, comments and blank lines included.
    pub(super) body_lines: usize,
}

/// Every function with a body in scrubbed `code`, nested ones included.
pub(super) fn functions(code: &str) -> Vec<Function> {
    let chars: Vec<char> = code.chars().collect();
    let mut found = Vec::new();
    let (mut at, mut line) = (0, 1);
    while let Some(&c) = chars.get(at) {
        if !is_word(c) {
            line += usize::from(c == '\n');
            at += 1;
            continue;
        }
        let word = word_at(&chars, at);
        at += word.len();
        if word == ['f', 'n'] {
            found.extend(function_at(&chars, at, line));
        }
    }
    found
}

fn word_at(chars: &[char], at: usize) -> &[char] {
    let rest = chars.get(at..).unwrap_or_default();
    let end = rest.iter().position(|&c| !is_word(c)).unwrap_or(rest.len());
    rest.get(..end).unwrap_or_default()
}

/// The function whose `fn` ends before `at`, unless it has no name (a pointer type) or no body.
fn function_at(chars: &[char], at: usize, line: usize) -> Option<Function> {
    let rest = chars.get(at..)?;
    let gap = rest.iter().position(|c| !c.is_whitespace())?;
    let name: String = word_at(chars, at + gap).iter().collect();
    if name.is_empty() {
        return None;
    }
    let mut brackets = 0_usize;
    let mut braces = 0_usize;
    let mut body_lines = 0_usize;
    for &c in rest {
        match c {
            '(' | '[' if braces == 0 => brackets += 1,
            ')' | ']' if braces == 0 => brackets = brackets.saturating_sub(1),
            ';' if braces == 0 && brackets == 0 => return None,
            '{' if brackets == 0 => braces += 1,
            '}' if brackets == 0 => {
                braces = braces.saturating_sub(1);
                if braces == 0 {
                    return Some(Function { name, line, body_lines: body_lines.saturating_sub(1) });
                }
            }
            '\n' if braces > 0 => body_lines += 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &str) {
        assert_eq!(code_only(text), expect);
    }

    #[test]
    fn comments_and_literals_are_blanked() {
        check("a // unsafe\nb", "a          \nb");
        check("a /* x /* y */ z */ b", "a                   b");
        check(r#"f("a\"{") + 1"#, r#"f("    ") + 1"#);
        check("x = '{';", "x = ' ';");
        check(r"x = '\'';", "x = '  ';");
        check("fn f<'a>(x: &'a str)", "fn f<'a>(x: &'a str)");
    }

    #[test]
    fn raw_strings_are_blanked_and_raw_identifiers_kept() {
        check("r#\"a \" b\"# c", "           c");
        check("br\"}\";", "b    ;");
        check("let r#fn = 1;", "let r#fn = 1;");
        check("var\"x\"", "var\" \"");
    }

    #[test]
    fn an_unterminated_literal_ends_with_the_file() {
        check("a \"b", "a \" ");
        check("/* a", "    ");
    }

    #[test]
    fn a_word_is_found_only_as_a_word() {
        let code = code_only("#![deny(unsafe_code)]\nunsafe { x() } // unsafe\nlet not_unsafe = 1;\n");
        assert_eq!(lines_with_word(&code, "unsafe"), [2]);
    }

    #[test]
    fn function_bodies_are_measured() {
        let code = code_only(concat!(
            "trait T { fn none(&self) -> [u8; 3]; }\n",
            "type P = fn(u8) -> u8;\n",
            "fn one_line() { x() }\n",
            "fn outer(\n    a: [u8; 2],\n) -> u8 {\n    fn inner() {\n        \"}\"\n    }\n    7\n}\n",
        ));
        let lines = |name: &str, line, body_lines| Function { name: name.into(), line, body_lines };
        assert_eq!(functions(&code), [lines("one_line", 3, 0), lines("outer", 4, 4), lines("inner", 7, 1)]);
    }
}
