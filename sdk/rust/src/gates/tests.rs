//! Handlers against a model of the cell's runtime.

use std::cell::RefCell;
use std::process::ExitCode;
use std::rc::Rc;

use baton_abi::gate::{ALLOC, CANCEL, FREE, GatePage, RECV, REPLY};
use baton_abi::{ABI_VERSION, Flags, Kind};

use super::page::PageError;
use super::{Gates, Page};
use crate::{Context, Error, Level, Request, Response};
use calls::answer_calls;
use model::{Answer, model};

mod calls;
mod memory;
mod model;

fn start_on(page: &'static GatePage) -> &'static Gates {
    start_with(page, &["price", "stock"])
}

fn start_with(page: &'static GatePage, callees: &[&str]) -> &'static Gates {
    let page = Page::of(page).check().unwrap();
    Gates::start(page, callees.iter().map(|&callee| callee.to_owned()).collect())
}

/// Serves the events of the model with `handler`, until it says that it is enough.
fn serve(handler: impl AsyncFn(Context, Request) -> Result<Response, Error>) {
    let ended = start_on(model::page()).run(|context, request| handler(context, request));
    assert_eq!(ended, ExitCode::SUCCESS);
}

/// Statuses and bodies of all answers.
fn answers() -> Vec<(u16, String)> {
    model(|model| {
        let text = |body: &[u8]| String::from_utf8(body.to_vec()).unwrap();
        model.replies.iter().map(|reply| (reply.d.code, text(&reply.body))).collect()
    })
}

fn one(status: u16, body: &str) -> Vec<(u16, String)> {
    vec![(status, body.to_owned())]
}

#[test]
fn a_request_costs_one_gate_and_no_allocation_of_its_own() {
    model(|model| {
        for tag in 0..20 {
            model.request(tag, Flags::LEND, b"abc");
        }
    });
    serve(async |ctx, request| {
        let mut answer = ctx.alloc(64)?;
        answer.extend_from_slice(request.body())?;
        Ok(Response::ok(answer))
    });
    assert_eq!(answers(), vec![(200, "abc".to_owned()); 20]);
    model(|model| {
        assert!(model.replies.iter().map(|reply| reply.d.tag).eq(0..20));
        // The last receive brings the end.
        assert_eq!((model.passed[RECV], model.passed[REPLY]), (21, 0));
        assert_eq!((model.passed[ALLOC], model.passed[FREE]), (1, 0));
    });
}

#[test]
fn an_owned_payload_goes_out_in_the_buffer_that_it_came_in() {
    let long = "abc".repeat(22);
    model(|model| model.request(1, Flags::MOVE, long.as_bytes()));
    serve(async |_ctx, request| {
        let mut body = request.into_body()?.into_buffer().map_err(|_| Error::new(500, "not owned"))?;
        body.extend_from_slice(b"def")?;
        Ok(Response::ok(body))
    });
    assert_eq!(answers(), one(200, &format!("{long}def")));
    model(|model| assert_eq!((model.held_count(), model.passed[ALLOC]), (0, 0)));
}

#[test]
fn a_head_goes_in_front_of_the_payload_or_into_a_buffer_of_its_own() {
    model(|model| (1..=3).for_each(|tag| model.request(tag, Flags::MOVE, &[u8::try_from(tag).unwrap()])));
    serve(async |ctx, request| {
        let response = match request.body() {
            [1] => Response::ok(ctx.zeroed(10)?),
            [2] => Response::ok(request.into_body()?),
            _ => Response::ok("plain text"),
        };
        Ok(response.header("a", "b"))
    });
    model(|model| {
        let beside: Vec<bool> =
            model.replies.iter().map(|reply| reply.d.head.handle == reply.d.body.handle).collect();
        assert_eq!(beside, [true, false, true]);
        assert!(model.replies.iter().all(|reply| !reply.head.is_empty()));
    });
}

#[test]
fn small_answers_travel_inline_and_others_are_copied_by_the_runtime() {
    let texts = ["", "8 bytes.", "more than eight", &"full".repeat(16), &"more".repeat(17)];
    model(|model| (1..=5).for_each(|tag| model.request(tag, Flags::MOVE, b"")));
    let nth = RefCell::new(texts.iter());
    serve(async |_ctx, _request| {
        Ok(Response::ok(nth.borrow_mut().next().copied().unwrap_or_default().to_owned()))
    });
    assert_eq!(answers(), texts.map(|text| (200, text.to_owned())));
    model(|model| {
        let flags: Vec<Flags> = model.replies.iter().map(|reply| reply.d.flags).collect();
        assert_eq!(flags, [Flags::MOVE, Flags::INLINE, Flags::INLINE, Flags::INLINE, Flags::BYTES]);
        assert_eq!(model.passed[ALLOC], 0);
    });
}

#[test]
fn a_small_payload_goes_in_the_parcel_and_its_buffer_stays() {
    model(|model| (1..=2).for_each(|tag| model.request(tag, Flags::MOVE, b"")));
    calls::answer_calls(|made| Answer::Now(200, made.body.clone()));
    serve(async |ctx, _request| {
        let mut small = ctx.alloc(64)?;
        small.extend_from_slice(&[7; 64])?;
        let lent = ctx.call("price", &small).await?.body().to_vec();
        let written = ctx.call("price", &mut small).await?.body().to_vec();
        assert_eq!((lent, written), (vec![7; 64], vec![7; 64]));
        Ok(Response::ok(small))
    });
    model(|model| {
        // What may be written is lent itself.
        let flags: Vec<Flags> = model.calls.iter().map(|made| made.d.flags).collect();
        assert_eq!(flags, [Flags::INLINE, Flags::LEND, Flags::INLINE, Flags::LEND]);
        assert!(model.replies.iter().all(|reply| reply.d.flags == Flags::INLINE && reply.body == [7; 64]));
    });
}

#[test]
fn a_small_payload_in_a_parcel_is_kept_like_any_other() {
    model(|model| {
        let d = baton_abi::Descriptor { flags: Flags::INLINE, ..baton_abi::Descriptor::new(Kind::Request) };
        for len in [9, 64, 65, u64::MAX] {
            let body = baton_abi::Extent { len, ..baton_abi::Extent::EMPTY };
            let words = baton_abi::Descriptor { body, ..d }.to_words();
            let small = [u64::from_le_bytes(*b"12345678"); 8];
            model.events.push_back(baton_abi::gate::Parcel {
                words,
                small,
                ..baton_abi::gate::Parcel::EMPTY
            });
        }
    });
    let lens = RefCell::new(Vec::new());
    serve(async |_ctx, request| {
        lens.borrow_mut().push(request.body().len());
        Ok(Response::ok(request.body().to_vec()))
    });
    // More than there is room for is no payload.
    assert_eq!(lens.into_inner(), [9, 64, 0, 0]);
    assert_eq!(answers()[0], (200, "123456781".to_owned()));
}

#[test]
fn an_inline_payload_can_be_kept_like_any_other() {
    model(|model| {
        let mut d =
            baton_abi::Descriptor { flags: Flags::INLINE, ..baton_abi::Descriptor::new(Kind::Request) };
        d.body.offset = u64::from_le_bytes(*b"abc\0\0\0\0\0");
        d.body.len = 3;
        model
            .events
            .push_back(baton_abi::gate::Parcel { words: d.to_words(), ..baton_abi::gate::Parcel::EMPTY });
    });
    serve(async |_ctx, request| {
        assert_eq!(request.body(), b"abc");
        Ok(Response::ok(request.into_body()?))
    });
    assert_eq!(answers(), one(200, "abc"));
}

#[test]
fn a_refused_answer_becomes_a_failure() {
    model(|model| {
        model.request(1, Flags::MOVE, b"abc");
        model.request(2, Flags::MOVE, b"");
        model.refuse_reply = Some(libc::ENOSPC);
    });
    serve(async |_ctx, request| match request.body() {
        [] => Ok(Response::empty()),
        _ => Ok(Response::ok(request.into_body()?)),
    });
    assert_eq!(answers().iter().map(|(status, _)| *status).collect::<Vec<_>>(), [503, 204]);
    model(|model| assert_eq!(model.held_count(), 0));
}

#[test]
fn a_failure_whose_text_is_refused_goes_out_as_a_status() {
    model(|model| {
        (1..=2).for_each(|tag| model.request(tag, Flags::MOVE, b""));
        // A function without the pool: neither its long answer nor the text about that is taken.
        model.refuse_bytes = true;
    });
    let nth = RefCell::new(0);
    serve(async |_ctx, _request| {
        *nth.borrow_mut() += 1;
        if *nth.borrow() == 1 {
            Ok(Response::ok("more than eight bytes"))
        } else {
            Err(Error::new(404, "gone for good"))
        }
    });
    assert_eq!(answers(), [(500, String::new()), (404, String::new())]);
    model(|model| assert!(model.replies.iter().all(|reply| reply.d.flags == Flags::ERROR)));
}

#[test]
fn shutdown_waits_for_what_runs() {
    model(|model| {
        model.request(1, Flags::MOVE, b"");
        model.event(Kind::Shutdown, 0);
        model.late_reply(4, b"done");
    });
    answer_calls(|_| Answer::Later(4));
    serve(async |ctx, _request| Ok(Response::ok(ctx.call("price", ()).await?.into_body()?)));
    assert_eq!(answers(), one(200, "done"));
}

#[test]
fn cancelling_drops_the_task_and_cancels_its_call() {
    model(|model| {
        model.request(1, Flags::MOVE, b"abc");
        model.event(Kind::Cancel, 1);
        // The runtime may have been on its way with it.
        model.late_reply(6, b"too late");
    });
    answer_calls(|_| Answer::Later(6));
    serve(async |ctx, request| {
        let _kept = request.into_body()?;
        ctx.call("price", ()).await?;
        Ok(Response::ok("unreachable"))
    });
    assert_eq!(answers(), one(504, "cancelled: the caller does not wait any more"));
    model(|model| {
        assert_eq!((model.cancelled.as_slice(), model.passed[CANCEL]), ([6].as_slice(), 1));
    });
}

#[test]
fn a_panicking_handler_fails_its_own_request() {
    model(|model| (1..=2).for_each(|tag| model.request(tag, Flags::MOVE, &[u8::try_from(tag).unwrap()])));
    serve(async |_ctx, request| {
        assert_ne!(request.body(), [1], "one is too few");
        Ok(Response::ok("fine"))
    });
    let [(status, text), (next, _)] = answers().try_into().unwrap();
    assert!(status == 500 && text.contains("one is too few"), "{status} {text}");
    assert_eq!(next, 200);
}

#[test]
fn lines_of_the_log_have_their_level() {
    model(|model| model.request(1, Flags::MOVE, b""));
    serve(async |ctx, _request| {
        ctx.log(Level::Warn, format_args!("{} left", 3));
        assert_eq!(ctx.invocation(), 101);
        Ok(Response::empty())
    });
    model(|model| assert_eq!(model.lines, [('W', "3 left".to_owned())]));
}

#[test]
fn hooks_run_once_in_every_copy_before_its_first_request() {
    let page = model::page();
    let at: *mut GatePage = page;
    let gates = start_on(page);
    let calls = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&calls);
    crate::on_restore(move || seen.borrow_mut().push("restored"));
    let seen = Rc::clone(&calls);
    model(|model| (1..=3).for_each(|tag| model.request(tag, Flags::MOVE, &[u8::try_from(tag).unwrap()])));
    model::become_copy(at, 2);
    let ended = gates.run(|_context, request: Request| {
        seen.borrow_mut().push("request");
        if request.body() == [2] {
            model::become_copy(at, 3);
        }
        async { Ok(Response::empty()) }
    });
    assert_eq!(ended, ExitCode::SUCCESS);
    assert_eq!(*calls.borrow(), ["restored", "request", "request", "restored", "request"]);
}

#[test]
fn a_cell_that_speaks_another_version_is_refused() {
    let page = model::page();
    page.abi_version = ABI_VERSION + 1;
    assert_eq!(Page::of(page).check().err(), Some(PageError::Version { cell: ABI_VERSION + 1 }));
    let page = model::page();
    page.magic = 5;
    assert_eq!(Page::of(page).check().err(), Some(PageError::Magic { found: 5 }));
}
