//! Writing pages: literals go out as they are, everything else is escaped, and the types tell one from the other.

use core::fmt::{Result, Write};

use crate::money::{Code, Money};

/// What can be put on a page.
pub(super) trait Show {
    /// Writes it.
    fn show(&self, out: &mut impl Write) -> Result;
}

/// Markup of the shop itself. Text from elsewhere does not live for ever, so it cannot come this way unescaped.
impl Show for &'static str {
    fn show(&self, out: &mut impl Write) -> Result {
        out.write_str(self)
    }
}

impl Show for Money {
    fn show(&self, out: &mut impl Write) -> Result {
        self.write(out)
    }
}

/// Three letters, whatever a peer sent.
impl Show for Code {
    fn show(&self, out: &mut impl Write) -> Result {
        out.write_str(self.as_str())
    }
}

impl Show for u32 {
    fn show(&self, out: &mut impl Write) -> Result {
        let (mut digits, mut at, mut rest) = ([0; 10], 10, *self);
        loop {
            at -= 1;
            digits[at] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
            rest /= 10;
            if rest == 0 {
                return out.write_str(core::str::from_utf8(&digits[at..]).unwrap_or("0"));
            }
        }
    }
}

/// Text that may hold anything, for element content and quoted attributes.
pub(super) struct Esc<'a>(pub(super) &'a str);

impl Show for Esc<'_> {
    fn show(&self, out: &mut impl Write) -> Result {
        let mut rest = self.0;
        while let Some(at) = rest.bytes().position(|byte| matches!(byte, b'&' | b'<' | b'>' | b'"' | b'\'')) {
            let (plain, special) = rest.split_at(at);
            out.write_str(plain)?;
            out.write_str(match special.as_bytes()[0] {
                b'&' => "&amp;",
                b'<' => "&lt;",
                b'>' => "&gt;",
                b'"' => "&quot;",
                _ => "&#39;",
            })?;
            rest = &special[1..];
        }
        out.write_str(rest)
    }
}

/// Text as a JSON string, quotes included.
pub(super) struct Json<'a>(pub(super) &'a str);

impl Show for Json<'_> {
    fn show(&self, out: &mut impl Write) -> Result {
        out.write_char('"')?;
        let mut rest = self.0;
        while let Some(at) = rest.bytes().position(|byte| byte < 0x20 || matches!(byte, b'"' | b'\\')) {
            let (plain, special) = rest.split_at(at);
            out.write_str(plain)?;
            match special.as_bytes()[0] {
                b'"' => out.write_str("\\\"")?,
                b'\\' => out.write_str("\\\\")?,
                byte => write!(out, "\\u{byte:04x}")?,
            }
            rest = &special[1..];
        }
        out.write_str(rest)?;
        out.write_char('"')
    }
}

/// Puts one part after the other on a page.
macro_rules! put {
    ($out:expr, $($part:expr),+ $(,)?) => {{ $( $crate::frontend::html::Show::show(&$part, $out)?; )+ }};
}
pub(super) use put;

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(what: impl Show) -> String {
        let mut out = String::new();
        what.show(&mut out).unwrap();
        out
    }

    #[test]
    fn markup_in_text_is_escaped() {
        assert_eq!(shown(Esc(r#"<a href="x" on='y'>&"#)), "&lt;a href=&quot;x&quot; on=&#39;y&#39;&gt;&amp;");
        assert_eq!(shown(Esc("plain – äö")), "plain – äö");
    }

    #[test]
    fn json_strings_survive_anything() {
        assert_eq!(shown(Json("a\"b\\c\n\u{1}é")), r#""a\"b\\c\u000a\u0001é""#);
    }

    #[test]
    fn numbers_show_all_their_digits() {
        assert_eq!((shown(0), shown(u32::MAX)), ("0".into(), "4294967295".into()));
    }
}
