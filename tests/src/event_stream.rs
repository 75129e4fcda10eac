//! What a browser understands of an event stream (WHATWG HTML §9.2.6), from the bytes that it was sent. Own code, because clients of
//! others tell neither comments nor ids that stand by themselves.

/// An event that a browser would dispatch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamEvent {
    /// The event's type; `message` where none is given.
    pub kind: String,
    /// Its data, lines joined by line feeds.
    pub data: String,
    /// The id that the browser would repeat, had the stream ended here.
    pub last_event_id: String,
}

/// What is known of a stream so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventStream {
    /// In their order.
    pub events: Vec<StreamEvent>,
    /// What the browser would repeat as `Last-Event-ID`.
    pub last_event_id: String,
    /// After how long it would come back, in milliseconds.
    pub retry_ms: Option<u64>,
    /// Comments.
    pub comments: usize,
}

impl EventStream {
    /// Reads the body of a response. An event whose end has not come is none.
    ///
    /// # Panics
    ///
    /// If it is not UTF-8 up to the end of its last whole line.
    pub fn read(body: &[u8]) -> EventStream {
        let (mut stream, mut id) = (EventStream::default(), String::new());
        let (mut kind, mut data) = (String::new(), None::<String>);
        let whole = body.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        for line in std::str::from_utf8(&body[..whole]).expect("UTF-8").split_terminator('\n') {
            let line = line.strip_suffix('\r').unwrap_or(line);
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "" if line.is_empty() => {
                    stream.last_event_id.clone_from(&id);
                    if let Some(data) = data.take() {
                        let kind = if kind.is_empty() { "message".to_owned() } else { kind.clone() };
                        stream.events.push(StreamEvent { kind, data, last_event_id: id.clone() });
                    }
                    kind.clear();
                }
                "" => stream.comments += 1,
                "event" => value.clone_into(&mut kind),
                "data" => match &mut data {
                    None => data = Some(value.to_owned()),
                    Some(data) => {
                        data.push('\n');
                        data.push_str(value);
                    }
                },
                "id" => value.clone_into(&mut id),
                "retry" => stream.retry_ms = value.parse().ok(),
                _ => {}
            }
        }
        stream
    }

    /// The data of its events of this type.
    pub fn of_kind(&self, kind: &str) -> Vec<&str> {
        self.events.iter().filter(|event| event.kind == kind).map(|event| &*event.data).collect()
    }
}
