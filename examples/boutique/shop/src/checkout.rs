//! Checkout: turns a cart into an order by asking six other functions.

use futures_util::future::{join, join_all};

use crate::failure::Failure;
use crate::ids::Ids;
use crate::money::{Code, Money};
use crate::services::Services;
use crate::text::Text;
use crate::wire::{Line, OrderHead, OrderLine, Purchase};

/// Places an order: reads the cart, prices it, charges the card, sends the parcel, empties the cart, confirms by mail.
///
/// Whatever can fail for the visitor's sake fails before the card is charged, the charge itself included. Prices and
/// shipping are asked for in parallel, as are emptying and confirming.
pub async fn place<S: Services>(services: &S, ids: &Ids, purchase: &Purchase) -> Result<S::Draft, Failure> {
    validate(purchase)?;
    let lines = services.cart(purchase.user).await?;
    if lines.is_empty() {
        return Err(Failure::new(422, "The cart is empty: there is nothing to order."));
    }
    let currency = purchase.currency;
    let (priced, shipping) =
        join(join_all(lines.iter().map(|line| price(services, *line, currency))), async {
            services.convert(services.quote(&lines).await?, currency).await
        })
        .await;
    let shipping = shipping?;
    let mut draft = services.draft(lines.len())?;
    let mut total = shipping;
    for (slot, line) in draft.lines.iter_mut().zip(priced) {
        let line = line?;
        total = total.plus(&line.price.times(line.quantity)?)?;
        *slot = line;
    }
    let payment = services.pay(total, &purchase.card).await?;
    let tracking = services.ship(&purchase.address, &lines).await?;
    let (address, email) = (purchase.address, purchase.email);
    draft.head = OrderHead { shipping, total, id: ids.hex(), tracking, payment, address, email, pad: [0; 4] };
    let (emptied, confirmed) = join(services.empty_cart(purchase.user), services.confirm(&draft)).await;
    emptied?;
    // The order stands: a mail that cannot be sent does not undo it.
    drop(confirmed);
    Ok(draft)
}

/// One line with its price in the order's currency.
async fn price<S: Services>(services: &S, line: Line, currency: Code) -> Result<OrderLine, Failure> {
    let product = services.product(line.product).await?;
    let price: Money = services.convert(product.price, currency).await?;
    let (name, picture) = (product.name, product.picture);
    Ok(OrderLine { price, quantity: line.quantity, pad: [0; 4], product: line.product, name, picture })
}

/// Refuses what no later step would catch before the card is charged.
fn validate(purchase: &Purchase) -> Result<(), Failure> {
    let missing = |what: &str| Err(Failure::new(422, format!("Please fill in the {what}.")));
    let (name, domain) = purchase.email.as_str().split_once('@').unwrap_or_default();
    let address = &purchase.address;
    let plain =
        |text: &str| !text.is_empty() && !text.contains(['@', ' ']) && !text.chars().any(char::is_control);
    match () {
        () if !plain(name) || !plain(domain) || !domain.contains('.') => {
            Err(Failure::new(422, "That is not an e-mail address."))
        }
        () if address.street.is_empty() => missing("street"),
        () if address.city.is_empty() => missing("city"),
        () if address.country.is_empty() => missing("country"),
        () if address.postcode.is_empty() => missing("postal code"),
        () => Ok(()),
    }
}

impl Purchase {
    /// A purchase put together from its parts.
    pub fn new(
        user: crate::wire::UserId,
        currency: Code,
        card: crate::wire::Card,
        address: crate::wire::Address,
        email: Text<79>,
    ) -> Self {
        Self { user, currency, pad: [0; 1], card, address, email }
    }
}
