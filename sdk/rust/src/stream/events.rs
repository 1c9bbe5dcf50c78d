//! Server-sent events.

use std::time::Duration;

use super::Sender;
use crate::error::Error;
use crate::response::Response;

/// An answer of server-sent events.
#[derive(Debug)]
pub struct Events(Sender);

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Event {
    text: String,
    data: String,
    /// A name or an id had a line break, or an id a NUL.
    is_bad: bool,
}

impl Event {
    /// One with this data, which may have several lines.
    pub fn data(data: &str) -> Event {
        let mut event = Event::default();
        // CR, LF and CRLF all end a line there.
        let data = data.replace("\r\n", "\n").replace('\r', "\n");
        for line in data.split('\n') {
            event.data.push_str("data: ");
            event.data.push_str(line);
            event.data.push('\n');
        }
        event
    }

    /// Its name; `message` without.
    pub fn name(self, name: &str) -> Event {
        self.field("event", name)
    }

    /// Its id, which a client that comes again says in `last-event-id`.
    pub fn id(self, id: &str) -> Event {
        let mut event = self.field("id", id);
        event.is_bad |= id.contains('\0');
        event
    }

    /// After how long a client that lost the connection should come again.
    pub fn retry(self, after: Duration) -> Event {
        let millis = after.as_millis().to_string();
        self.field("retry", &millis)
    }

    fn field(mut self, name: &str, value: &str) -> Event {
        self.is_bad |= value.contains(['\r', '\n']);
        for part in [name, ": ", value, "\n"] {
            self.text.push_str(part);
        }
        self
    }

    fn text(&self) -> Result<String, Error> {
        if self.is_bad {
            return Err(Error::new(500, "names and ids of events are one line"));
        }
        Ok(format!("{}{}\n", self.text, self.data))
    }
}

impl Events {
    pub(super) fn new(sender: Sender) -> Events {
        Events(sender)
    }

    /// Sends an event; it is with the client as soon as the network lets it.
    ///
    /// # Errors
    /// As [`Sender::send`]; [`Error::Handler`] if its name or id is not one line.
    pub async fn send(&mut self, event: Event) -> Result<(), Error> {
        self.0.send(event.text()?).await
    }

    /// Sends a comment, which clients pass over: so that a quiet stream is not taken for a dead one.
    ///
    /// # Errors
    /// As [`Sender::send`].
    pub async fn keep_alive(&mut self) -> Result<(), Error> {
        self.0.send(":\n\n").await
    }

    /// As [`Sender::pause`].
    ///
    /// # Errors
    /// [`Error::ClientGone`] once nobody reads on.
    pub async fn pause(&mut self, time: Duration) -> Result<(), Error> {
        self.0.pause(time).await
    }

    /// As [`Sender::end`].
    ///
    /// # Errors
    /// As [`Sender::end`].
    pub fn end(self) -> Result<Response, Error> {
        self.0.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_what_the_standard_says() {
        let event = Event::data("one\ntwo\r\nthree\rfour").name("tick").id("7");
        let expect = "event: tick\nid: 7\ndata: one\ndata: two\ndata: three\ndata: four\n\n";
        assert_eq!(event.text().unwrap(), expect);
        assert_eq!(Event::data("").text().unwrap(), "data: \n\n");
        assert_eq!(
            Event::data("x").retry(Duration::from_secs(2)).text().unwrap(),
            "retry: 2000\ndata: x\n\n"
        );
    }

    #[test]
    fn no_field_can_write_another() {
        for bad in
            [Event::data("x").name("a\ndata: y"), Event::data("x").id("a\rb"), Event::data("x").id("\0")]
        {
            assert!(bad.text().is_err());
        }
    }
}
