//! The drawings: flat, 96 × 96, part of the page itself, so that a page needs no second request.

/// A drawing with its frame, from the shapes inside.
macro_rules! drawing {
    ($($shapes:literal)+) => {
        concat!(r#"<svg class="pic" viewBox="0 0 96 96" aria-hidden="true">"#, $($shapes,)+ "</svg>")
    };
}

/// What is shown for a product without a drawing: a parcel.
pub(super) const UNKNOWN: &str = drawing!(
    r##"<path d="M14 30 48 14l34 16v38L48 84 14 68z" fill="#c79a63"/><path d="M14 30l34 16 34-16M48 46v38" fill="none" stroke="#7d5a2e" stroke-width="3"/>"##
);

/// The drawing of this name.
pub(super) fn picture(name: &str) -> &'static str {
    match name {
        "mug" => drawing!(
            r##"<path d="M66 38h8a12 12 0 0 1 0 24h-8" fill="none" stroke="#8d8578" stroke-width="6"/>"##
            r##"<path d="M20 28h48v40a12 12 0 0 1-12 12H32a12 12 0 0 1-12-12z" fill="#d9cfbd"/><path d="M20 28h48v17c-16 7-32-5-48 2z" fill="#6f7f80"/>"##
        ),
        "lamp" => drawing!(
            r##"<path d="M30 84 24 52l28-24" fill="none" stroke="#5b6b7a" stroke-width="5"/><path d="M14 80h34v6H14z" fill="#3f4c58"/>"##
            r##"<path d="M44 18 62 36 82 34 58 10z" fill="#d9622b"/><path d="M60 38 82 36l6 26z" fill="#ffd977" opacity=".6"/>"##
        ),
        "watch" => drawing!(
            r##"<path d="M36 8h24l3 24H33zM33 64h30l-3 24H36z" fill="#7b7a4f"/><circle cx="48" cy="48" r="25" fill="#3c4043"/>"##
            r##"<circle cx="48" cy="48" r="20" fill="#f2ecdd"/><path d="M48 34v14l10 6" fill="none" stroke="#3c4043" stroke-width="3"/>"##
        ),
        "headphones" => drawing!(
            r##"<path d="M18 58V48a30 30 0 0 1 60 0v10" fill="none" stroke="#39424e" stroke-width="7"/>"##
            r##"<rect x="12" y="52" width="20" height="30" rx="9" fill="#4a7c8c"/><rect x="64" y="52" width="20" height="30" rx="9" fill="#4a7c8c"/>"##
        ),
        "fern" => drawing!(
            r##"<path d="M48 60C30 56 18 42 16 24c18 2 30 14 32 36 0-24 8-40 24-48 8 20 0 40-24 48z" fill="#4f8f5b"/>"##
            r##"<path d="M48 60c8-12 22-18 36-16-4 12-18 20-36 16z" fill="#76b07a"/><path d="M28 60h40l-5 26H33z" fill="#c0673e"/>"##
        ),
        "tote" => drawing!(
            r##"<path d="M34 36V24a14 14 0 0 1 28 0v12" fill="none" stroke="#8a7a5c" stroke-width="5"/>"##
            r##"<path d="M18 34h60l5 52H13z" fill="#d8c49a"/><path d="M36 62c8-14 16-14 24 0-8 8-16 8-24 0z" fill="#56764f"/>"##
        ),
        "sunglasses" => drawing!(
            r##"<path d="M8 36h80" stroke="#6d4326" stroke-width="5"/><path d="M42 44q6-6 12 0" fill="none" stroke="#6d4326" stroke-width="5"/>"##
            r##"<g fill="#33424f" stroke="#6d4326" stroke-width="5"><circle cx="26" cy="50" r="17"/><circle cx="70" cy="50" r="17"/></g>"##
        ),
        "candle" => drawing!(
            r##"<path d="M48 8c10 12 10 20 0 26-10-6-10-14 0-26z" fill="#f59e2e"/><path d="M48 30v12" stroke="#5a4a3a" stroke-width="3"/>"##
            r##"<rect x="32" y="40" width="32" height="40" rx="4" fill="#e8b84f"/><path d="M20 80h56v7H20z" fill="#8b6f4e"/>"##
        ),
        "notebook" => drawing!(
            r##"<rect x="22" y="10" width="54" height="76" rx="5" fill="#2f5d62"/><path d="M32 10v76" stroke="#1e3f43" stroke-width="4"/>"##
            r##"<rect x="42" y="24" width="24" height="14" rx="2" fill="#f1e9d6"/><path d="M68 10v76" stroke="#d9622b" stroke-width="4"/>"##
        ),
        "kettle" => drawing!(
            r##"<path d="M26 40a22 22 0 0 1 44 0" fill="none" stroke="#3d3d42" stroke-width="6"/><path d="M66 52 88 40l-6 18-14 10z" fill="#9aa5ad"/>"##
            r##"<path d="M18 42h54l8 42H12z" fill="#b8c2c9"/><circle cx="46" cy="38" r="5" fill="#d9622b"/>"##
        ),
        "scarf" => drawing!(
            r##"<path d="M24 20c16 12 32 12 48 0l8 16c-20 16-44 16-64 0z" fill="#b7a58a"/><path d="M30 40l20 6-4 40H24z" fill="#cbbba1"/>"##
            r##"<path d="M24 70h24M25 78h22" stroke="#8b7a60" stroke-width="4"/>"##
        ),
        "turntable" => drawing!(
            r##"<rect x="8" y="20" width="80" height="58" rx="7" fill="#8c5a35"/><circle cx="42" cy="49" r="24" fill="#222429"/>"##
            r##"<circle cx="42" cy="49" r="8" fill="#d9622b"/><path d="M76 28v24L62 64" fill="none" stroke="#e6e1d8" stroke-width="4"/>"##
        ),
        _ => UNKNOWN,
    }
}
