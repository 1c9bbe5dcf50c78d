// Amounts for people: three digits and a unit, a dash for what nobody knows.

const DASH = "–";

function digits(value) {
  if (value >= 100 || Number.isInteger(value)) return String(Math.round(value));
  return value >= 10 ? value.toFixed(1) : value.toFixed(2).replace(/0$/, "");
}

function scaled(value, step, units) {
  let unit = 0;
  while (value >= step * 0.9995 && unit + 1 < units.length) {
    value /= step;
    unit += 1;
  }
  return [digits(value), units[unit]];
}

const known = (value) => typeof value === "number" && Number.isFinite(value);

export function count(value) {
  if (!known(value)) return DASH;
  if (value < 10000) return digits(value);
  return scaled(value, 1000, ["", "k", "M", "G", "T"]).join("");
}

export const rate = (value) => (known(value) ? `${count(value)}/s` : DASH);

export function bytes(value) {
  return known(value) ? scaled(value, 1024, ["B", "KiB", "MiB", "GiB", "TiB"]).join("\u00a0") : DASH;
}

export function nanos(value) {
  if (!known(value)) return DASH;
  return scaled(value, 1000, ["ns", "µs", "ms", "s"]).join("\u00a0");
}

export const micros = (value) => (known(value) ? nanos(value * 1000) : DASH);

export const percent = (share) => (known(share) ? `${digits(Math.round(share * 1000) / 10)}\u00a0%` : DASH);

export function span(seconds) {
  if (!known(seconds)) return DASH;
  if (seconds < 100) return `${Math.round(seconds)}\u00a0s`;
  if (seconds < 6000) return `${Math.round(seconds / 60)}\u00a0min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)}\u00a0h`;
  return `${Math.round(seconds / 86400)}\u00a0d`;
}

export function clock(milliseconds) {
  const date = new Date(milliseconds);
  const two = (number) => String(number).padStart(2, "0");
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${String(date.getMilliseconds()).padStart(3, "0")}`;
}

export const plural = (number, word) => `${count(number)} ${word}${number === 1 ? "" : "s"}`;
