//! Forms as browsers send them: `name=value` pairs joined by `&`, with `+` for blanks and `%XX` for the rest.

use crate::failure::Failure;
use crate::frontend::{Ask, FORM_BYTES_MAX};
use crate::text::Text;

/// Longest decoded value, in bytes.
const VALUE_BYTES_MAX: usize = 255;

/// A form, not yet decoded.
#[derive(Debug, Clone, Copy)]
pub struct Form<'a>(&'a str);

/// The form that a request carries as its body.
pub(super) fn body<'a>(ask: &Ask<'a>) -> Result<Form<'a>, Failure> {
    let kind = ask.content_type.unwrap_or("").split(';').next().unwrap_or("").trim_ascii();
    if !kind.is_empty() && !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Err(Failure::new(415, "Send the form as application/x-www-form-urlencoded."));
    }
    if ask.body.len() > FORM_BYTES_MAX {
        return Err(Failure::new(413, format!("A form may have at most {FORM_BYTES_MAX} bytes.")));
    }
    core::str::from_utf8(ask.body).map(Form).map_err(|_| Failure::new(400, "The form is not text."))
}

impl<'a> Form<'a> {
    /// The form that a query is.
    pub fn query(query: &'a str) -> Self {
        Self(query)
    }

    /// The value of the first field of this name, decoded and without blanks around it; empty if there is none.
    pub fn text<const N: usize>(self, name: &'static str) -> Result<Text<N>, Failure> {
        let mut fields = self.0.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let Some((_, raw)) = fields.find(|(field, _)| *field == name) else { return Ok(Text::EMPTY) };
        let mut bytes = [0; VALUE_BYTES_MAX];
        let len = decode(raw.as_bytes(), &mut bytes)
            .ok_or_else(|| Failure::new(422, format!("The field {name} is too long or wrongly encoded.")))?;
        let value = core::str::from_utf8(&bytes[..len]).ok().filter(|text| !text.contains('\0'));
        let value = value.ok_or_else(|| Failure::new(422, format!("The field {name} is not text.")))?;
        Text::new(value.trim()).map_err(|error| {
            Failure::new(422, format!("The field {name} may have {} bytes at most.", error.max))
        })
    }

    /// The value of a field that must be there.
    pub fn required<const N: usize>(self, name: &'static str) -> Result<Text<N>, Failure> {
        match self.text(name)? {
            text if text.is_empty() => Err(Failure::new(400, format!("The field {name} is missing."))),
            text => Ok(text),
        }
    }

    /// The number in a field that must be there.
    pub fn number<T: core::str::FromStr>(self, name: &'static str) -> Result<T, Failure> {
        let text: Text<11> = self.required(name)?;
        text.as_str()
            .parse()
            .map_err(|_| Failure::new(422, format!("The field {name} is not a number that fits.")))
    }
}

/// Decodes `raw` into `into`; its length, or nothing if it does not fit or a `%` is not followed by two digits.
fn decode(raw: &[u8], into: &mut [u8]) -> Option<usize> {
    let (mut from, mut len) = (raw.iter(), 0);
    while let Some(&byte) = from.next() {
        let hex = |digit: &u8| char::from(*digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        *into.get_mut(len)? = match byte {
            b'+' => b' ',
            b'%' => hex(from.next()?)? << 4 | hex(from.next()?)?,
            byte => byte,
        };
        len += 1;
    }
    Some(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_decoded() {
        let form = Form("a=1&city=S%C3%A3o+Paulo&a=2&empty=&flag");
        assert_eq!(form.text::<15>("city").unwrap().as_str(), "São Paulo");
        assert_eq!(form.number::<u32>("a").unwrap(), 1);
        assert!(form.text::<4>("flag").unwrap().is_empty() && form.text::<4>("none").unwrap().is_empty());
        assert_eq!(form.required::<4>("empty").unwrap_err().status, 400);
    }

    #[test]
    fn wrong_encoding_is_refused() {
        let check = |raw: &str, status: u16| {
            let text = format!("f={raw}");
            assert_eq!(Form(&text).text::<7>("f").unwrap_err().status, status, "{raw}");
        };
        check("%", 422);
        check("%4", 422);
        check("%zz", 422);
        check("%ff", 422);
        check("%00", 422);
        check("12345678", 422);
        check(&"x".repeat(256), 422);
        assert_eq!(Form("n=-1").number::<u32>("n").unwrap_err().status, 422);
    }

    #[test]
    fn only_forms_are_read_as_forms() {
        let ask = |content_type, body| Ask { content_type: Some(content_type), body, ..Ask::default() };
        assert_eq!(body(&ask("application/json", b"{}")).unwrap_err().status, 415);
        assert_eq!(body(&ask("", &[0xff])).unwrap_err().status, 400);
        assert_eq!(body(&ask("", &[b'a'; FORM_BYTES_MAX + 1])).unwrap_err().status, 413);
        assert!(body(&ask("application/x-www-form-urlencoded; charset=utf-8", b"a=b")).is_ok());
    }
}
