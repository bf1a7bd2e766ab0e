/** Words of the console: plain objects per page, checked by the compiler, formatted here. */

export type Locale = "en" | "ko";
export const LOCALES: readonly Locale[] = ["en", "ko"];

export type Values = Record<string, string | number>;

/** What a Korean file must hold for an English one: each of its keys and no other. */
export type Translation<English> = { readonly [Key in keyof English]: string };

const PLACEHOLDER = /\{(\w+)(?:\|([^|}]*)\|([^}]*))?\}/g;

/**
 * `{name}` is replaced by its value; `{count|# job|# jobs}` by the form for one or for several. Numbers are written as
 * the language writes them. A value that is missing stays visible as `{name}`.
 */
export function format(template: string, values: Values, locale: Locale): string {
  return template.replace(PLACEHOLDER, (whole, name: string, one?: string, several?: string) => {
    const value = values[name];
    if (value === undefined) return whole;
    const told = typeof value === "number" ? new Intl.NumberFormat(locale).format(value) : value;
    if (one === undefined || several === undefined) return told;
    const form = new Intl.PluralRules(locale).select(Number(value)) === "one" ? one : several;
    return form.replaceAll("#", told);
  });
}

/** The names that a template wants values for. */
export function placeholders(template: string): string[] {
  return [...new Set([...template.matchAll(PLACEHOLDER)].map((match) => match[1] ?? ""))].sort();
}
