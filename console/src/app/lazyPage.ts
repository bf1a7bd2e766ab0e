import type { ComponentType } from "react";

/** A page that is loaded when it is gone to: `lazy: lazyPage(() => import("./index"))`. */
export function lazyPage(load: () => Promise<{ default: ComponentType }>) {
  return async () => ({ Component: (await load()).default });
}
