// A resource as the YAML of a manifest, in the form of `springtide get -o yaml`. Pure.

const PLAIN = /^[A-Za-z_/$][\w ./@${}+-]*$/;
/** Plain words that YAML reads as something else. */
const TAKEN = /^(true|false|yes|no|on|off|y|n|null|~)$/i;

function scalar(value: unknown): string {
  if (typeof value !== "string") return JSON.stringify(value);
  return PLAIN.test(value) && !TAKEN.test(value) && value === value.trim() ? value : JSON.stringify(value);
}

const isEmpty = (value: unknown) => typeof value !== "object" || value === null || Object.keys(value).length === 0;

/** The lines of a value; what is absent is left out. */
function lines(value: unknown): string[] {
  if (isEmpty(value)) return [scalar(value)];
  if (Array.isArray(value)) return value.flatMap((item) => lines(item).map((line, at) => (at === 0 ? "- " : "  ") + line));
  return Object.entries(value as object).filter(([, of]) => of !== null).flatMap(([name, of]) => {
    if (isEmpty(of)) return [`${scalar(name)}: ${scalar(of)}`];
    return [`${scalar(name)}:`, ...lines(of).map((line) => (Array.isArray(of) ? line : `  ${line}`))];
  });
}

export const yaml = (value: unknown) => lines(value).join("\n");
