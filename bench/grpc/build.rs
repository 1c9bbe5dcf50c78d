//! Generates clients and servers of the yardstick's services from the table below: no protobuf compiler is needed.

use tonic_build::manual::{Builder, Method, Service};

/// Service and its methods: name in Rust, name on the wire, request, reply.
const SERVICES: &[(&str, &[[&str; 4]])] = &[
    (
        "Catalog",
        &[
            ["list", "List", "Empty", "Products"],
            ["get", "Get", "Id", "Product"],
            ["search", "Search", "Id", "Products"],
        ],
    ),
    ("Currency", &[["list", "List", "Empty", "Codes"], ["convert", "Convert", "Conversion", "Money"]]),
    (
        "Cart",
        &[
            ["get", "Get", "Id", "Lines"],
            ["add", "Add", "CartAdd", "Empty"],
            ["empty", "Empty", "Id", "Empty"],
        ],
    ),
    ("Recommendation", &[["list", "List", "Ids", "Products"]]),
    ("Shipping", &[["quote", "Quote", "Lines", "Money"], ["ship", "Ship", "Parcel", "Id"]]),
    ("Checkout", &[["order", "Order", "Purchase", "Order"]]),
    ("Payment", &[["pay", "Pay", "Charge", "Id"]]),
    ("Email", &[["send", "Send", "Order", "Id"]]),
    ("Ad", &[["list", "List", "Categories", "Ads"]]),
    ("Hop", &[["hop", "Hop", "Payload", "Payload"]]),
    ("Chain", &[["pass", COUNTED, "Payload", "Payload"], ["counts", "Counts", "Empty", "Handled"]]),
];

/// The method whose messages are counted.
const COUNTED: &str = "Pass";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let services: Vec<Service> = SERVICES.iter().map(|(name, methods)| service(name, methods)).collect();
    Builder::new().compile(&services);
}

fn service(name: &str, methods: &[[&str; 4]]) -> Service {
    let builder = Service::builder().name(name).package("boutique").comment("One function of the boutique.");
    let methods = methods.iter().map(|[name, route, request, reply]| {
        Method::builder()
            .name(name)
            .route_name(route)
            .comment("One of its operations.")
            .input_type(format!("crate::messages::{request}"))
            .output_type(format!("crate::messages::{reply}"))
            .codec_path(if *route == COUNTED {
                "crate::chain::CountedCodec"
            } else {
                "tonic_prost::ProstCodec"
            })
            .build()
    });
    methods.fold(builder, tonic_build::manual::ServiceBuilder::method).build()
}
