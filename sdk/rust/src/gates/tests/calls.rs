//! Calls to other functions.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use baton_abi::gate::{ALLOC, CALL, FREE, RECV};
use baton_abi::head::{Field, records, write_record};
use baton_abi::{Flags, Rights};

use super::model::{self, Answer, Made, model};
use super::{answers, one, serve, start_with};
use crate::{Error, Response};

pub(super) fn answer_calls(callee: impl FnMut(&Made) -> Answer + 'static) {
    model(|model| model.callee = Box::new(callee));
}

#[test]
fn a_call_that_is_answered_at_once_needs_no_event() {
    model(|model| model.request(5, Flags::MOVE, b""));
    answer_calls(|_| Answer::Now(201, b"seven".to_vec()));
    serve(async |ctx, _request| {
        let reply = ctx.call("stock", "which?").operation(3).await?;
        assert_eq!((reply.status(), reply.body()), (201, b"seven".as_slice()));
        Ok(Response::ok(reply.into_body()?))
    });
    assert_eq!(answers(), one(200, "seven"));
    model(|model| {
        let made = &model.calls[0];
        // The tag of the request that it serves, for the runtime to find the invocation by.
        assert_eq!((made.callee, made.d.tag, made.d.code, made.d.deadline_ns), (1, 5, 3, 0));
        assert_eq!(made.body, b"which?");
        assert_eq!((model.passed[RECV], model.passed[CALL]), (2, 1));
    });
}

#[test]
fn what_is_lent_comes_back_and_what_moves_does_not() {
    model(|model| model.request(1, Flags::MOVE, b""));
    answer_calls(|_| Answer::Now(200, Vec::new()));
    serve(async |ctx, _request| {
        let mut buffer = ctx.alloc(140)?;
        buffer.extend_from_slice(&[1; 70])?;
        ctx.call("price", &buffer).await?;
        buffer.extend_from_slice(&[2; 70])?;
        ctx.call("price", &mut buffer).await?;
        ctx.call("price", buffer).await?;
        Ok(Response::empty())
    });
    model(|model| {
        let seen: Vec<_> =
            model.calls.iter().map(|made| (made.d.flags, made.rights, made.body.as_slice())).collect();
        let both = [[1; 70], [2; 70]].concat();
        assert_eq!(
            seen,
            [
                (Flags::LEND, Rights::FROZEN, [1; 70].as_slice()),
                (Flags::LEND, Rights::ALL, &both),
                (Flags::MOVE, Rights::NONE, &both),
            ]
        );
        let moved = model.calls[2].d.body.handle;
        assert!(!model.freed.contains(&moved));
    });
}

#[test]
fn others_are_served_while_a_call_is_pending() {
    model(|model| {
        model.request(1, Flags::MOVE, b"slow");
        model.request(2, Flags::MOVE, b"fast");
        model.late_reply(77, b"at last");
    });
    answer_calls(|_| Answer::Later(77));
    serve(async |ctx, request| {
        if request.body() == b"fast" {
            return Ok(Response::ok("fast"));
        }
        let reply = ctx.call("price", ()).await?;
        Ok(Response::ok(reply.into_body()?))
    });
    assert_eq!(answers(), [(200, "fast".to_owned()), (200, "at last".to_owned())]);
    model(|model| assert_eq!(model.replies[1].d.tag, 1));
}

#[test]
fn an_answer_does_not_wait_for_tasks_that_can_go_on() {
    model(|model| {
        (1..=2).for_each(|tag| model.request(tag, Flags::MOVE, b""));
        model.late_reply(1, b"");
        model.late_reply(2, b"");
    });
    let mut tag = 0;
    answer_calls(move |_| {
        tag += 1;
        Answer::Later(tag)
    });
    let before = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&before);
    serve(async move |ctx, _request| {
        ctx.call("price", ()).await?;
        seen.borrow_mut().push(model(|model| model.replies.len()));
        Ok(Response::empty())
    });
    assert_eq!(*before.borrow(), [0, 1]);
}

#[test]
fn errnos_become_errors() {
    let function = || "price".to_owned();
    let cases = [
        (libc::EAGAIN, Error::Overloaded { function: function() }, 429),
        (libc::ETIMEDOUT, Error::DeadlineExceeded { function: function() }, 504),
        (libc::EHOSTUNREACH, Error::Unavailable { function: function() }, 502),
        (libc::ENOSPC, Error::PoolFull { wanted: 12 }, 503),
    ];
    for (errno, expect, status) in cases {
        model(|model| model.request(1, Flags::MOVE, b""));
        answer_calls(move |_| Answer::Refuses(errno));
        serve(async |ctx, _request| {
            let failed = ctx.call("price", "twelve bytes").await.map(|_| ()).unwrap_err();
            assert_eq!(failed, expect);
            Err(failed)
        });
        assert_eq!(
            model(|model| model.replies.pop().map(|reply| (reply.d.code, reply.d.flags.has(Flags::ERROR)))),
            Some((status, true))
        );
        model::reset();
    }
    for (errno, is_denied) in
        [(libc::EACCES, true), (libc::ESTALE, true), (libc::EINVAL, false), (libc::EFAULT, false)]
    {
        model(|model| model.request(1, Flags::MOVE, b""));
        answer_calls(move |_| Answer::Refuses(errno));
        serve(async |ctx, _request| {
            let failed = ctx.call("price", ()).await.map(|_| ()).unwrap_err();
            assert_eq!(matches!(failed, Error::Denied { .. }), is_denied, "{failed}");
            assert_eq!(matches!(failed, Error::Protocol { .. }), !is_denied, "{failed}");
            Ok(Response::empty())
        });
        model::reset();
    }
}

#[test]
fn a_callee_that_fails_is_told_from_one_that_is_late_or_gone() {
    model(|model| model.request(1, Flags::MOVE, b""));
    let mut left = vec![Answer::Lost(502), Answer::Lost(504), Answer::Fails(422, "no order")];
    answer_calls(move |_| left.pop().unwrap());
    serve(async |ctx, _request| {
        let function = || "price".to_owned();
        let fail = async || ctx.call("price", ()).await.map(|_| ()).unwrap_err();
        assert_eq!(
            fail().await,
            Error::Function { function: function(), status: 422, message: "no order".to_owned() }
        );
        assert_eq!(fail().await, Error::DeadlineExceeded { function: function() });
        assert_eq!(fail().await, Error::Unavailable { function: function() });
        Ok(Response::empty())
    });
}

#[test]
fn a_function_that_is_not_in_calls_is_not_called() {
    model(|model| model.request(1, Flags::MOVE, b""));
    serve(async |ctx, _request| {
        let failed = ctx.call("nobody", ()).await.map(|_| ()).unwrap_err();
        assert_eq!(failed, Error::NoEdge { function: "nobody".to_owned() });
        Ok(Response::empty())
    });
    model(|model| assert_eq!(model.passed[CALL], 0));
}

#[test]
fn what_was_to_move_with_a_refused_call_is_given_up() {
    model(|model| model.request(1, Flags::MOVE, b"abc"));
    answer_calls(|_| Answer::Refuses(libc::EAGAIN));
    serve(async |ctx, request| {
        let body = request.into_body()?;
        ctx.call("price", body).await.map(|_| ()).unwrap_err();
        Ok(Response::empty())
    });
    // The model took it before it refused, as a runtime may: giving it up once more is no harm.
    model(|model| assert_eq!((model.held_count(), model.passed[FREE]), (0, 1)));
}

#[test]
fn a_call_has_the_time_that_its_caller_gives_it() {
    model(|model| model.request(1, Flags::MOVE, b""));
    answer_calls(|_| Answer::Now(200, Vec::new()));
    let before = crate::clock::now_ns();
    serve(async |ctx, _request| {
        ctx.call("price", ()).timeout(Duration::from_millis(50)).await?;
        Ok(Response::empty())
    });
    let wish = model(|model| model.calls[0].d.deadline_ns);
    assert!(wish >= before + 50_000_000 && wish <= crate::clock::now_ns() + 50_000_000);
}

#[test]
fn joined_calls_are_marked_and_keep_their_order() {
    model(|model| {
        model.request(1, Flags::MOVE, b"");
        model.late_reply(9, b"late");
    });
    answer_calls(
        |made| if made.d.code == 1 { Answer::Later(9) } else { Answer::Now(200, b"at once".to_vec()) },
    );
    serve(async |ctx, _request| {
        let calls = [ctx.call("price", ()).operation(1), ctx.call("stock", ()).operation(2)];
        let bodies: Vec<_> =
            ctx.join(calls).await.into_iter().map(|reply| reply.unwrap().body().to_vec()).collect();
        assert_eq!(bodies, [b"late".to_vec(), b"at once".to_vec()]);
        ctx.join([ctx.call("stock", ()).operation(3)]).await;
        Ok(Response::empty())
    });
    model(|model| {
        let flags: Vec<Flags> = model.calls.iter().map(|made| made.d.flags).collect();
        // The last of a join is made here.
        assert_eq!(flags, [Flags::PARALLEL, Flags::MOVE, Flags::MOVE]);
    });
}

/// A head as lines.
fn lines(head: &[u8]) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let all = records(head).map(Result::unwrap);
    all.map(|record| format!("{:?} {} {}", record.field, record.name, text(record.value))).collect()
}

#[test]
fn a_call_carries_a_head_beside_any_payload() {
    model(|model| model.request(1, Flags::MOVE, b""));
    answer_calls(|_| Answer::Now(200, Vec::new()));
    serve(async |ctx, _request| {
        let mut small = ctx.alloc(8)?;
        small.extend_from_slice(b"lent")?;
        let frozen = ctx.value(b"shared!!")?.freeze();
        let told =
            |call: crate::Call<'static>| call.method("PUT").path("/x").query("q=1").header("Accept", "*/*");
        told(ctx.call("price", ())).await?;
        told(ctx.call("price", "text")).await?;
        told(ctx.call("price", ctx.zeroed(100)?)).await?;
        told(ctx.call("price", frozen)).await?;
        // What is lent stays here, so its head goes in a buffer of its own, however small it is.
        ctx.call("price", &small).method("PUT").path("/x").query("q=1").header("accept", "*/*").await?;
        Ok(Response::ok(small))
    });
    model(|model| {
        let expect = ["Method  PUT", "Path  /x", "Query  q=1", "Header accept */*"];
        assert!(model.calls.iter().all(|made| lines(&made.head) == expect));
        let bodies: Vec<&[u8]> = model.calls.iter().map(|made| made.body.as_slice()).collect();
        assert_eq!(bodies, [b"".as_slice(), b"text", &[0; 100], b"shared!!", b"lent"]);
        let flags: Vec<Flags> = model.calls.iter().map(|made| made.d.flags).collect();
        assert_eq!(flags, [Flags::MOVE, Flags::MOVE, Flags::MOVE, Flags::SHARE, Flags::LEND]);
        // Heads move whatever becomes of the payload.
        assert!(model.calls.iter().all(|made| !model.freed.contains(&made.d.head.handle)));
    });
}

#[test]
fn a_call_without_a_head_allocates_nothing_for_one() {
    model(|model| model.request(1, Flags::MOVE, b""));
    answer_calls(|_| Answer::Now(200, b"fine".to_vec()));
    serve(async |ctx, _request| {
        ctx.call("price", "text").await?;
        Ok(Response::empty())
    });
    model(|model| {
        assert_eq!((model.passed[ALLOC], model.calls[0].d.head), (0, baton_abi::HeadExtent::EMPTY))
    });
}

#[test]
fn a_head_that_cannot_be_encoded_fails_its_call() {
    model(|model| model.request(1, Flags::MOVE, b""));
    serve(async |ctx, _request| {
        let long = "x".repeat(65_536);
        let failed = ctx.call("price", ()).header("a", long).await.map(|_| ()).unwrap_err();
        assert!(failed.status() == 500 && failed.to_string().contains("a header"), "{failed}");
        Ok(Response::empty())
    });
    model(|model| assert_eq!(model.passed[CALL], 0));
}

#[test]
fn headers_of_an_answer_are_read_in_order() {
    model(|model| model.request(1, Flags::MOVE, b""));
    answer_calls(|_| {
        let mut head = [0; 256];
        let at = write_record(&mut head, 0, Field::Header, "vary", b"accept").unwrap();
        let at = write_record(&mut head, at, Field::Header, "vary", b"origin").unwrap();
        Answer::WithHead(head[..at].to_vec(), b"body".to_vec())
    });
    serve(async |ctx, _request| {
        let reply = ctx.call("price", ()).await?;
        let all: Vec<_> = reply.headers().collect();
        assert_eq!(all, [("vary", b"accept".as_slice()), ("vary", b"origin")]);
        assert_eq!((reply.header("vary"), reply.body()), (Some("accept"), b"body".as_slice()));
        Ok(Response::empty())
    });
}

#[test]
fn a_request_to_the_network_is_a_call_of_the_node_and_its_failures_are_told_as_such() {
    model(|model| model.request(1, Flags::MOVE, b""));
    let mut left = vec![Answer::Lost(504), Answer::Fails(403, "api.example.com:443 is not in `network`")];
    answer_calls(move |made| match made.d.body.len {
        0 => left.pop().unwrap(),
        _ => Answer::Now(418, b"teapot".to_vec()),
    });
    let page = model::page();
    let gates = start_with(page, &["price", baton_abi::boot::NETWORK]);
    gates.run(async |ctx, _request| {
        let body = ctx.value(&[1u8; 100])?;
        let reply = ctx.fetch("https://api.example.com/x?q=1").header("A", "b").body(body).await?;
        assert_eq!((reply.status(), reply.body()), (418, b"teapot".as_slice()));
        let fail = async || ctx.fetch("https://api.example.com/").await.map(|_| ()).unwrap_err();
        let denied = fail().await;
        assert!(matches!(&denied, Error::Network { status: 403, message } if message.contains("network")));
        assert!(matches!(fail().await, Error::Network { status: 504, .. }));
        Ok(Response::empty())
    });
    model(|model| {
        let made = &model.calls[0];
        assert_eq!((made.callee, made.d.flags), (1, Flags::MOVE));
        let expect = ["Path  https://api.example.com/x?q=1", "Header a b", "Method  POST"];
        assert_eq!(lines(&made.head), expect);
        assert_eq!(lines(&model.calls[1].head), ["Path  https://api.example.com/"]);
    });
}

#[test]
fn without_hosts_in_the_manifest_nothing_is_asked_for() {
    model(|model| model.request(1, Flags::MOVE, b""));
    serve(async |ctx, _request| {
        let failed = ctx.fetch("https://api.example.com/").await.map(|_| ()).unwrap_err();
        assert!(failed.status() == 403 && failed.to_string().contains("baton.toml"), "{failed}");
        Ok(Response::empty())
    });
    model(|model| assert_eq!(model.passed[CALL], 0));
}
