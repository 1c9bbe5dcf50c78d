//! A Rust guest with the standard library: its start, its threads and its panics need nothing that the sandbox denies.

fn main() {
    let sum: u32 = std::thread::spawn(|| (1..=4).sum()).join().expect("the thread ends well");
    println!("sum {sum} args {:?}", std::env::args().collect::<Vec<_>>());
    std::thread::sleep(std::time::Duration::from_millis(1));
    if std::env::args().nth(1).as_deref() == Some("panic") {
        panic!("as asked");
    }
}
