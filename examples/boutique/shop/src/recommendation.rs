//! Recommendation: products that the visitor is not looking at already.

use crate::failure::Failure;
use crate::services::Services;
use crate::wire::{Product, ProductId};

/// Most products recommended.
pub const RECOMMENDED_MAX: usize = 5;

/// Asks the catalogue for the products on show and picks up to five that are not among `with`, starting at `turn`.
///
/// They are handed to `keep` one by one, so that the carrier can write them where the reply goes.
pub async fn recommend<S: Services>(
    services: &S,
    with: &[ProductId],
    turn: usize,
    mut keep: impl FnMut(&Product) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let products = services.products().await?;
    let others = || products.iter().filter(|product| !with.contains(&product.id));
    let count = others().count();
    if count == 0 {
        return Ok(());
    }
    others().cycle().skip(turn % count).take(count.min(RECOMMENDED_MAX)).try_for_each(&mut keep)
}
