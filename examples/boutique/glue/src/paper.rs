//! Pages written straight into the buffer that the gateway sends from.

use baton::{Buffer, Context, Response};
use boutique_shop::Failure;
use boutique_shop::frontend::{Answer, Paper};

use crate::failure;

/// Pool memory to write a page into.
#[derive(Debug)]
pub struct Pages<'a> {
    context: &'a Context,
    sheet: Option<Buffer>,
}

impl<'a> Pages<'a> {
    /// No page yet.
    pub fn new(context: &'a Context) -> Self {
        Self { context, sheet: None }
    }

    /// The answer with the page that was written.
    pub fn into_response(self, answer: Answer) -> Response {
        let response = match (answer.content_type, self.sheet) {
            (Some(kind), Some(sheet)) => Response::ok(sheet).header("content-type", kind),
            _ => Response::empty(),
        };
        let response = match &answer.location {
            Some(location) => response.header("location", location.as_ref()),
            None => response,
        };
        let cookies = answer.cookies.iter();
        cookies.fold(response.status(answer.status), |response, cookie| response.header("set-cookie", cookie))
    }
}

impl Paper for Pages<'_> {
    type Sheet = Buffer;

    fn sheet(&mut self, bytes: usize) -> Result<&mut Buffer, Failure> {
        // One written before goes back first: a page that failed must not take the room of its error page.
        self.sheet = None;
        let buffer = self.context.alloc(bytes).map_err(failure)?;
        Ok(self.sheet.insert(buffer))
    }
}
