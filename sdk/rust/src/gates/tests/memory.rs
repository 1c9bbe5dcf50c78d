//! Buffers, and who has them.

use std::cell::RefCell;

use baton_abi::gate::{FREE, NARROW, REPLY};
use baton_abi::{Flags, Kind};

use super::model::{self, model};
use super::{answers, one, serve};
use crate::{Response, Shared};

#[test]
fn buffers_are_taken_and_given_back_many_at_a_time() {
    model(|model| (0..100).for_each(|tag| model.request(tag, Flags::MOVE, b"abc")));
    serve(async |_ctx, _request| Ok(Response::empty()));
    // A hundred bodies were dropped; what there was too many of went back by the dozen.
    model(|model| assert!(model.passed[FREE] <= 2 && model.held_count() <= 64, "{:?}", model.passed));
}

#[test]
fn nothing_is_kept_when_there_is_nothing_to_do() {
    model(|model| {
        model.request(1, Flags::LEND, b"abc");
        model.event(Kind::Free, 0);
    });
    serve(async |ctx, _request| Ok(Response::ok(ctx.zeroed(9)?)));
    model(|model| assert_eq!(model.held_count(), 0));
}

#[test]
fn nothing_that_was_written_hides_behind_a_payload() {
    model(|model| model.request(1, Flags::LEND, b""));
    serve(async |ctx, _request| {
        let mut buffer = ctx.alloc(100)?;
        buffer.extend_from_slice(&[b's'; 100])?;
        buffer.truncate(65);
        Ok(Response::ok(buffer))
    });
    model(|model| {
        let reply = model.replies[0].clone();
        assert_eq!(reply.body, [b's'; 65]);
        assert!(model.whole(reply.d.body.handle).iter().filter(|&&byte| byte != 0).eq(&[b's'; 65]));
    });
}

#[test]
fn a_buffer_that_is_used_again_shows_nothing_of_its_last_use() {
    model(|model| {
        model.request(1, Flags::MOVE, &[b's'; 100]);
        model.request(2, Flags::LEND, b"");
    });
    serve(async |ctx, request| {
        drop(request);
        let mut buffer = ctx.alloc(65)?;
        buffer.extend_from_slice(&[b'x'; 65])?;
        Ok(Response::ok(buffer))
    });
    model(|model| {
        for reply in model.replies.clone() {
            let end = usize::try_from(reply.d.body.offset + reply.d.body.len).unwrap();
            assert!(model.whole(reply.d.body.handle)[end..].iter().all(|&byte| byte == 0));
        }
    });
}

#[test]
fn a_shared_answer_goes_out_before_its_sender_lets_go() {
    model(|model| model.request(1, Flags::MOVE, b"news"));
    serve(async |_ctx, request| Ok(Response::ok(request.into_body()?.into_shared()?)));
    assert_eq!(answers(), one(200, "news"));
    model(|model| {
        assert_eq!(model.replies[0].d.flags, Flags::SHARE);
        assert_eq!((model.passed[REPLY], model.freed.len()), (1, 1));
    });
}

#[test]
fn what_is_shared_is_looked_up_once_until_others_run_and_fails_once_revoked() {
    model(|model| (1..=3).for_each(|tag| model.request(tag, Flags::SHARE, b"news")));
    let kept: RefCell<Option<Shared>> = RefCell::new(None);
    serve(async |_ctx, request| {
        if kept.borrow().is_none() {
            *kept.borrow_mut() = Some(request.into_body()?.into_shared()?);
        }
        let shared = kept.borrow().clone().unwrap();
        let again = shared.bytes().map(<[u8]>::to_vec);
        assert_eq!(shared.bytes().map(<[u8]>::to_vec), again);
        if again.is_ok() && model(|model| model.passed[NARROW]) == 2 {
            // The owner takes it away.
            model(|model| model.take(7));
        }
        Ok(Response::ok(again?))
    });
    assert_eq!(answers().iter().map(|(status, _)| *status).collect::<Vec<_>>(), [200, 200, 500]);
    model(|model| assert_eq!(model.passed[NARROW], 4));
}

#[test]
fn a_payload_is_written_in_place_only_with_the_right_to() {
    model(|model| {
        model.request(1, Flags::LEND, b"abc");
        model.request(2, Flags::MOVE, b"abc");
    });
    serve(async |_ctx, request| {
        let mut body = request.into_body()?;
        body.bytes_mut()?.make_ascii_uppercase();
        Ok(Response::ok(body))
    });
    let [(refused, _), (written, text)] = answers().try_into().unwrap();
    assert_eq!((refused, written, text.as_str()), (500, 200, "ABC"));
}

#[test]
fn a_lent_payload_is_copied_when_it_is_answered_with() {
    let long = "this was lent ".repeat(5);
    model(|model| {
        model.request(1, Flags::LEND, long.as_bytes());
        model.request(2, Flags::LEND, b"this was lent");
    });
    serve(async |_ctx, request| Ok(Response::ok(request.into_body()?)));
    assert_eq!(answers(), [(200, long.clone()), (200, "this was lent".to_owned())]);
    model(|model| {
        let flags: Vec<Flags> = model.replies.iter().map(|reply| reply.d.flags).collect();
        assert_eq!(flags, [Flags::BYTES, Flags::INLINE]);
    });
}

#[test]
fn a_pool_that_is_full_or_closed_is_told() {
    for (errno, status) in [(libc::ENOSPC, 503), (libc::EACCES, 500)] {
        model(|model| {
            model.request(1, Flags::LEND, b"");
            model.refuse_alloc = Some(errno);
        });
        serve(async |ctx, _request| Ok(Response::ok(ctx.zeroed(100)?)));
        assert_eq!(answers().last().map(|(status, _)| *status), Some(status));
        model::reset();
    }
}
