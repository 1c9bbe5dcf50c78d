//! Calls between endpoints.

use super::*;

#[test]
fn a_call_is_answered() {
    run(async {
        let (a, _b) = pair(echo()).await;
        let answer = a.call("b", call(Payload::Inline(Bytes::from_static(b"body")))).await.unwrap();
        let body = Arrived::Inline(Bytes::from_static(b"body"));
        let expected = Answer { status: 200, kind: AnswerKind::Reply, load: 7, head: b"head".to_vec(), body };
        assert_eq!(answer, expected);
        assert_eq!(a.call("c", call(Payload::Empty)).await, Err(CallError::NotConnected));
        assert_eq!(a.counts().of(Counted::CallsOut), 1);
        assert_eq!(a.counts().of(Counted::CallsFailed), 1);
    });
}

#[test]
fn many_calls_at_a_time_are_answered_each_by_its_own_answer() {
    run(async {
        let (a, _b) = pair(Rc::new(By(|_, call: Incoming| async move {
            tokio::time::sleep(Duration::from_millis(call.invocation % 7)).await;
            let body = Payload::Inline(Bytes::from(call.invocation.to_string()));
            Outcome { status: 200, body, ..Outcome::default() }
        })))
        .await;
        let calls = (0..400).map(|invocation| {
            let a = a.clone();
            tokio::task::spawn_local(async move {
                let answer = a.call("b", Call { invocation, ..call(Payload::Empty) }).await.unwrap();
                assert_eq!(answer.body, Arrived::Inline(Bytes::from(invocation.to_string())));
            })
        });
        for each in calls.collect::<Vec<_>>() {
            each.await.unwrap();
        }
    });
}

#[test]
fn a_call_that_is_dropped_is_dropped_at_its_callee() {
    run(async {
        struct Sets(Flag);
        impl Drop for Sets {
            fn drop(&mut self) {
                self.0.set(true);
            }
        }
        let (began, dropped) = (Flag::default(), Flag::default());
        let (began_there, dropped_there) = (Rc::clone(&began), Rc::clone(&dropped));
        let (a, _b) = pair(Rc::new(By(move |_, _| {
            began_there.set(true);
            let sets = Sets(Rc::clone(&dropped_there));
            async move {
                std::future::pending::<()>().await;
                drop(sets);
                Outcome::default()
            }
        })))
        .await;
        let calling = tokio::task::spawn_local({
            let a = a.clone();
            async move { a.call("b", call(Payload::Empty)).await }
        });
        until("it began", || began.get()).await;
        calling.abort();
        until("it was dropped", || dropped.get()).await;
        until("nothing is out", || a.peers()[0].in_flight == 0).await;
        let late = Call { timeout: Duration::from_millis(30), ..call(Payload::Empty) };
        dropped.set(false);
        assert_eq!(a.call("b", late).await, Err(CallError::Late));
        until("it was dropped", || dropped.get()).await;
    });
}

#[test]
fn a_large_body_is_pulled_and_so_is_a_large_answer() {
    const LEN: u64 = 3 << 20;
    run(async {
        let (at_a, at_b) = (Rc::new(Memory::new(8 << 20)), Rc::new(Memory::new(8 << 20)));
        let endpoint: Slot<Endpoint> = Slot::default();
        let (there, memory) = (Rc::clone(&endpoint), Rc::clone(&at_b));
        let service = By(move |from: Rc<str>, call: Incoming| {
            let (there, memory) = (Rc::clone(&there), Rc::clone(&memory));
            async move {
                let Arrived::Referenced(reference) = call.body else { return Outcome::default() };
                let endpoint = there.borrow().clone().unwrap();
                let room = memory.room(4096, reference.len);
                endpoint.pull(&from, &reference, room, deadline(5)).await.unwrap();
                Outcome {
                    status: 200,
                    body: Payload::Held(memory.held(4096, reference.len)),
                    ..Outcome::default()
                }
            }
        });
        let (a, b) = pair(Rc::new(service)).await;
        *endpoint.borrow_mut() = Some(b.clone());
        at_a.fill(0, LEN);
        let answer = a.call("b", call(Payload::Held(at_a.held(0, LEN)))).await.unwrap();
        assert!(at_a.same(0, &at_b, 4096, LEN));
        let Arrived::Referenced(reference) = answer.body else { panic!("{answer:?}") };
        a.pull("b", &reference, at_a.room(4 << 20, LEN), deadline(5)).await.unwrap();
        assert!(at_a.same(0, &at_a, 4 << 20, LEN));
        until("nothing is held", || at_a.used() == 0 && at_b.used() == 0).await;
        assert!(a.held().is_empty() && b.held().is_empty());
        assert_eq!(b.counts().of(Counted::BytesPulled), LEN);
        endpoint.borrow_mut().take();
    });
}

#[test]
fn a_body_that_was_not_pulled_is_let_go_of_with_the_answer() {
    run(async {
        let memory = Memory::new(1 << 20);
        let (a, b) = pair(echo()).await;
        a.call("b", call(Payload::Held(memory.held(0, 1 << 20)))).await.unwrap();
        until("nothing is held", || memory.used() == 0).await;
        drop(b);
        until("b is gone", || !a.peers()[0].up).await;
        let lost = a.call("b", call(Payload::Held(memory.held(0, 1 << 20)))).await;
        assert_eq!(lost, Err(CallError::NotConnected));
        assert_eq!(memory.used(), 0);
    });
}

#[test]
fn a_callee_that_is_gone_loses_its_calls() {
    run(async {
        let began = Flag::default();
        let there = Rc::clone(&began);
        let (a, b) = pair(Rc::new(By(move |_, _| {
            there.set(true);
            std::future::pending()
        })))
        .await;
        let calling = tokio::task::spawn_local({
            let a = a.clone();
            async move { a.call("b", call(Payload::Empty)).await }
        });
        until("it began", || began.get()).await;
        drop(b);
        assert_eq!(calling.await.unwrap(), Err(CallError::Lost { sent: true }));
        until("it is down", || !a.peers()[0].up).await;
        a.changed().await;
    });
}

#[test]
fn a_node_that_drains_finishes_what_runs_and_takes_no_more() {
    run(async {
        let go = Rc::new(tokio::sync::Notify::new());
        let there = Rc::clone(&go);
        let (a, b) = pair(Rc::new(By(move |_, _| {
            let go = Rc::clone(&there);
            async move {
                go.notified().await;
                Outcome { status: 200, ..Outcome::default() }
            }
        })))
        .await;
        let running = tokio::task::spawn_local({
            let a = a.clone();
            async move { a.call("b", call(Payload::Empty)).await }
        });
        until("it is out", || a.peers()[0].in_flight == 1).await;
        let draining = tokio::task::spawn_local({
            let b = b.clone();
            async move { b.drain(Duration::from_secs(5)).await }
        });
        until("a knows", || a.peers()[0].draining).await;
        let refused = a.call("b", call(Payload::Empty)).await.unwrap_err();
        assert_eq!(refused, CallError::Draining);
        assert!(refused.retryable() && !draining.is_finished());
        go.notify_one();
        assert_eq!(running.await.unwrap().unwrap().status, 200);
        draining.await.unwrap();
    });
}

#[test]
fn what_no_frame_carries_is_refused_before_it_is_sent() {
    run(async {
        let (a, _b) = pair(echo()).await;
        let large = vec![0; crate::limits::INLINE_MAX + 1];
        let cases = [
            call(Payload::Inline(Bytes::from(large))),
            Call { head: vec![0; crate::limits::HEAD_MAX + 1], ..call(Payload::Empty) },
            Call { app: "a".repeat(crate::limits::NAME_MAX + 1), ..call(Payload::Empty) },
            Call { function: String::new(), ..call(Payload::Empty) },
        ];
        for case in cases {
            assert_eq!(a.call("b", case).await, Err(CallError::TooLarge));
        }
        let whole = Call {
            head: vec![1; crate::limits::HEAD_MAX],
            ..call(Payload::Inline(Bytes::from(vec![2; 65536])))
        };
        let answer = a.call("b", whole).await.unwrap();
        assert_eq!(answer.head.len(), crate::limits::HEAD_MAX);
        assert_eq!(answer.body, Arrived::Inline(Bytes::from(vec![2; 65536])));
    });
}
