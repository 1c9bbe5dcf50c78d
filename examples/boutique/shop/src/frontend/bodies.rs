//! The front end's bodies: make the calls of a chain, in parallel where they do not need each other, then render.

use futures_util::future::{join, join_all, join3, join4};

use crate::catalog::FEATURED;
use crate::currency;
use crate::failure::Failure;
use crate::frontend::form::Form;
use crate::frontend::views::{self, Frame, Priced};
use crate::frontend::visit::{Visit, currency_cookie};
use crate::frontend::{Answer, Paper};
use crate::money::{Code, Money};
use crate::services::Services;
use crate::text::Text;
use crate::wire::{Address, Card, Categories, Line, Product, ProductId, Purchase};

/// `GET /`: the products on show.
pub async fn index<S: Services, P: Paper>(
    services: &S,
    visit: &Visit,
    paper: &mut P,
) -> Result<Answer, Failure> {
    let goods = async {
        let products = services.products().await?;
        let prices = convert_all(services, products.iter().take(FEATURED), visit.currency).await?;
        Ok::<_, Failure>((products, prices))
    };
    let (currencies, lines, goods, ads) =
        join4(services.currencies(), services.cart(visit.user), goods, services.ads(Categories(0))).await;
    let (currencies, lines, (products, prices), ads) = (currencies?, lines?, goods?, ads?);
    let frame = Frame::new(visit, &currencies, &lines, "/");
    let sheet = paper.sheet(views::page_bytes(prices.len()))?;
    views::index(sheet, &frame, &priced(&products, &prices), &ads)?;
    Ok(Answer::page(200, visit))
}

/// `GET /search`: the products that match a word.
pub async fn search<S: Services, P: Paper>(
    services: &S,
    visit: &Visit,
    query: &str,
    paper: &mut P,
) -> Result<Answer, Failure> {
    let word: Text<40> = Form::query(query).text("q")?;
    let goods = async {
        let products = services.search(word.as_str()).await?;
        let prices = convert_all(services, products.iter(), visit.currency).await?;
        Ok::<_, Failure>((products, prices))
    };
    let (currencies, lines, goods) = join3(services.currencies(), services.cart(visit.user), goods).await;
    let (currencies, lines, (products, prices)) = (currencies?, lines?, goods?);
    let frame = Frame::new(visit, &currencies, &lines, "/");
    let sheet = paper.sheet(views::page_bytes(prices.len()))?;
    views::found(sheet, &frame, word.as_str(), &priced(&products, &prices))?;
    Ok(Answer::page(200, visit))
}

/// `GET /product/{id}`: one product.
pub async fn product<S: Services, P: Paper>(
    services: &S,
    visit: &Visit,
    id: &str,
    paper: &mut P,
) -> Result<Answer, Failure> {
    let id: ProductId = Text::new(id).map_err(|_| Failure::new(404, "No product has so long a name."))?;
    let article = async {
        let product = services.product(id).await?;
        let (price, ads) =
            join(services.convert(product.price, visit.currency), services.ads(product.categories)).await;
        Ok::<_, Failure>((product, price?, ads?))
    };
    let with = [id];
    let (currencies, lines, article, others) =
        join4(services.currencies(), services.cart(visit.user), article, services.recommend(&with)).await;
    let (currencies, lines, (product, price, ads), others) = (currencies?, lines?, article?, others?);
    let frame = Frame::new(visit, &currencies, &lines, "/cart");
    let sheet = paper.sheet(views::page_bytes(2 + others.len()))?;
    views::product(sheet, &frame, &Priced { product: &product, price, quantity: 1 }, &others, &ads)?;
    Ok(Answer::page(200, visit))
}

/// `GET /cart`: what the visitor wants to buy, and the form to order it.
pub async fn view_cart<S: Services, P: Paper>(
    services: &S,
    visit: &Visit,
    paper: &mut P,
) -> Result<Answer, Failure> {
    let basket = async {
        let lines = services.cart(visit.user).await?;
        let with: Vec<ProductId> = lines.iter().map(|line| line.product).collect();
        let (goods, shipping, others) = join3(
            join_all(lines.iter().map(|line| price_line(services, line, visit.currency))),
            async { services.convert(services.quote(&lines).await?, visit.currency).await },
            services.recommend(&with),
        )
        .await;
        Ok::<_, Failure>((lines, goods.into_iter().collect::<Result<Vec<_>, _>>()?, shipping?, others?))
    };
    let (currencies, basket) = join(services.currencies(), basket).await;
    let (currencies, (lines, goods, shipping, others)) = (currencies?, basket?);
    let rows: Vec<Priced<'_>> = goods
        .iter()
        .zip(lines.iter())
        .map(|((product, price), line)| Priced { product, price: *price, quantity: line.quantity })
        .collect();
    let mut total = shipping;
    for row in &rows {
        total = total.plus(&row.price.times(row.quantity)?)?;
    }
    let frame = Frame::new(visit, &currencies, &lines, "/cart");
    let sheet = paper.sheet(views::page_bytes(4 + rows.len() + others.len()))?;
    views::cart(sheet, &frame, &rows, (shipping, total), &others)?;
    Ok(Answer::page(200, visit))
}

/// `POST /cart`: puts a product into the cart.
pub async fn add_to_cart<S: Services>(
    services: &S,
    visit: &Visit,
    form: Form<'_>,
) -> Result<Answer, Failure> {
    let product: ProductId = form.required("product_id")?;
    let quantity = form.number("quantity")?;
    // The catalogue says whether there is such a product; the cart, how many of it may be added.
    services.product(product).await?;
    services.add_to_cart(visit.user, Line { quantity, product }).await?;
    Ok(Answer::see_other("/cart", visit))
}

/// `POST /cart/empty`: empties the cart.
pub async fn empty_cart<S: Services>(services: &S, visit: &Visit) -> Result<Answer, Failure> {
    services.empty_cart(visit.user).await?;
    Ok(Answer::see_other("/cart", visit))
}

/// `POST /checkout`: orders what is in the cart.
pub async fn checkout<S: Services, P: Paper>(
    services: &S,
    visit: &Visit,
    form: Form<'_>,
    paper: &mut P,
) -> Result<Answer, Failure> {
    let purchase = purchase(visit, form)?;
    let (order, others, currencies) =
        join3(services.checkout(&purchase), services.recommend(&[]), services.currencies()).await;
    let (order, others, currencies) = (order?, others?, currencies?);
    let frame = Frame::new(visit, &currencies, &[], "/");
    let sheet = paper.sheet(views::page_bytes(2 + order.lines.len() + others.len()))?;
    views::order(sheet, &frame, &order, &others)?;
    Ok(Answer::page(200, visit))
}

/// `POST /currency`: remembers the currency and goes back to where the visitor was.
pub fn set_currency(visit: &Visit, form: Form<'_>) -> Result<Answer, Failure> {
    let asked: Text<7> = form.required("currency_code")?;
    let code = Code::parse(asked.as_str()).filter(|code| currency::knows(*code));
    let code = code.ok_or_else(|| Failure::new(422, "The shop does not know that currency."))?;
    let back: Text<79> = form.text("back")?;
    let mut answer = Answer::see_other(local_path(back.as_str()).to_owned(), visit);
    answer.cookies.push(currency_cookie(code));
    Ok(answer)
}

/// A path of this shop, or `/`: the way back must not lead elsewhere, nor add headers.
fn local_path(path: &str) -> &str {
    let plain = path.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_'));
    if path.starts_with('/') && !path.starts_with("//") && plain { path } else { "/" }
}

/// Reads the order form.
fn purchase(visit: &Visit, form: Form<'_>) -> Result<Purchase, Failure> {
    let card = Card {
        year: form.number("credit_card_expiration_year")?,
        month: form.number("credit_card_expiration_month")?,
        cvv: form.required("credit_card_cvv")?,
        number: form.required("credit_card_number")?,
    };
    let address = Address {
        street: form.required("street_address")?,
        city: form.required("city")?,
        region: form.text("state")?,
        country: form.required("country")?,
        postcode: form.required("zip_code")?,
    };
    Ok(Purchase::new(visit.user, visit.currency, card, address, form.required("email")?))
}

/// The prices of these products, all asked for at once.
async fn convert_all<S: Services>(
    services: &S,
    products: impl Iterator<Item = &Product>,
    to: Code,
) -> Result<Vec<Money>, Failure> {
    let prices = join_all(products.map(|product| services.convert(product.price, to))).await;
    prices.into_iter().collect()
}

/// A line's product and its price.
async fn price_line<S: Services>(
    services: &S,
    line: &Line,
    to: Code,
) -> Result<(S::Held<Product>, Money), Failure> {
    let product = services.product(line.product).await?;
    let price = services.convert(product.price, to).await?;
    Ok((product, price))
}

/// Products beside their prices.
fn priced<'a>(products: &'a [Product], prices: &[Money]) -> Vec<Priced<'a>> {
    products
        .iter()
        .zip(prices)
        .map(|(product, price)| Priced { product, price: *price, quantity: 1 })
        .collect()
}
