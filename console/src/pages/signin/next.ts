/** Where to go after signing in: an address of this console. Anything else, as `//elsewhere.example`, is the start page. */
export function insideAddress(next: string | null): string {
  if (next === null || !/^\/(?![/\\])/.test(next) || next.startsWith("/signin")) return "/";
  return next;
}
