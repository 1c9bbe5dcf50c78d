//! Who asks, in which currency, and in which form they want the answer: from the cookies and the `accept` header.

use crate::currency;
use crate::frontend::Ask;
use crate::ids::Ids;
use crate::money::Code;
use crate::text::Text;
use crate::wire::UserId;

/// How long cookies live: 48 hours.
const COOKIE_RULES: &str = "; Path=/; Max-Age=172800; HttpOnly; SameSite=Lax";

/// One request's visitor.
#[derive(Debug, Clone)]
pub struct Visit {
    /// The session, which names the cart.
    pub user: UserId,
    /// Prices are shown in this currency.
    pub currency: Code,
    /// The answer is JSON instead of a page.
    pub json: bool,
    /// The session is new: the answer sets its cookie.
    pub fresh: bool,
}

impl Visit {
    /// Reads the cookies; what is missing or malformed is as if it were not there.
    pub fn new(ask: &Ask<'_>, ids: &Ids) -> Self {
        let (mut user, mut chosen) = (None, None);
        for pair in ask.cookie.unwrap_or("").split(';') {
            match pair.trim_ascii().split_once('=') {
                Some(("shop_session", value)) if is_session(value) => user = Text::new(value).ok(),
                Some(("shop_currency", value)) => {
                    chosen = Code::parse(value).filter(|code| currency::knows(*code))
                }
                _ => {}
            }
        }
        let json = ask.accept.is_some_and(|accept| {
            accept
                .split(',')
                .any(|kind| kind.split(';').next().unwrap_or("").trim_ascii() == "application/json")
        });
        let fresh = user.is_none();
        let user = user.or_else(|| Text::new(ids.hex().as_str()).ok()).unwrap_or(Text::EMPTY);
        Self { user, currency: chosen.unwrap_or(Code(*b"USD")), json, fresh }
    }

    /// The cookie that a new session needs.
    pub(super) fn new_cookie(&self) -> Vec<String> {
        match self.fresh {
            true => vec![format!("shop_session={}{COOKIE_RULES}", self.user)],
            false => Vec::new(),
        }
    }
}

/// The cookie that remembers a currency.
pub(super) fn currency_cookie(code: Code) -> String {
    format!("shop_currency={}{COOKIE_RULES}", code.as_str())
}

/// Session ids are 8 to 39 letters, digits, hyphens and underscores.
fn is_session(value: &str) -> bool {
    (8..=39).contains(&value.len())
        && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visit(cookie: &str, accept: &str) -> Visit {
        Visit::new(&Ask { cookie: Some(cookie), accept: Some(accept), ..Ask::default() }, &Ids::new())
    }

    #[test]
    fn cookies_name_visitor_and_currency() {
        let known = visit("a=b; shop_session=0123456789; shop_currency=CAD", "*/*");
        assert_eq!((known.user.as_str(), known.currency.as_str(), known.json), ("0123456789", "CAD", false));
        assert!(known.new_cookie().is_empty());
    }

    #[test]
    fn malformed_cookies_count_as_none() {
        for cookie in
            ["", "shop_session=<script>", "shop_session=", "shop_session=ab\u{e9}cdefgh", "shop_session"]
        {
            let new = visit(cookie, "");
            assert!(new.fresh && new.user.as_str().len() == 32, "{cookie}");
            assert!(new.new_cookie()[0].contains("HttpOnly"));
        }
        assert_eq!(visit("shop_currency=XXX", "").currency, Code(*b"USD"));
    }

    #[test]
    fn json_is_for_those_who_ask_for_it() {
        assert!(visit("", "text/plain, application/json;q=0.9").json);
        assert!(!visit("", "text/html,application/xhtml+xml,*/*;q=0.8").json);
    }
}
