use crate::node::{Function, Node};
use baton_abi::cell::Trust;
#[test]
fn zz_hop() {
    let hop = crate::guest("hop");
    for trust in [Trust::App, Trust::Buffer] {
        let functions = vec![Function::new("front", &hop).calls(&["back"]), Function::new("back", &hop)];
        let mut node = Node::start(trust, functions).unwrap();
        println!("load {:?}", node.load_ns);
        let t = std::time::Instant::now();
        let mut cell = node.fork();
        println!("fork to ready {:?}", t.elapsed());
        for payload in [64, 4096, 65536, 1 << 20, 16 << 20] {
            let answer = cell.ask(
                &mut node.pool,
                0,
                format!("h{payload},{}", if payload > 4096 { 2000 } else { 200000 }).as_bytes(),
            );
            println!("{trust:?} {payload}: {}", answer.text());
        }
    }
}
#[test]
fn zz_perf() {
    let hop = crate::guest("hop");
    let mut front = Function::new("front", &hop).calls(&["back"]);
    front.timeout = std::time::Duration::from_secs(60);
    let functions = vec![front, Function::new("back", &hop)];
    let mut node = Node::start(Trust::App, functions).unwrap();
    let mut cell = node.fork();
    let answer = cell.ask(&mut node.pool, 0, b"h64,15000000");
    println!("{}", answer.text());
}
