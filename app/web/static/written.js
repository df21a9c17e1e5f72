// Values as `app/web/charts.py` writes them.
const digits = (value, count) => Number(value.toPrecision(count)).toLocaleString("en", { maximumSignificantDigits: count });

const FORMATS = {
  number: (value) => digits(value, 4),
  percent: (value) => `${digits(value * 100, 4)}%`,
  megabytes: (value) => `${digits(value, 3)} MB`,
  milliseconds: (value) => `${digits(value, 3)} ms`,
  times: (value) => `${digits(value, 3)}×`,
  time: (value) => `${digits(value, 4)} s`,
};

export function written(format, value) {
  return FORMATS[format](value);
}
