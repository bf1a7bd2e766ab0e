import type { RouteObject } from "react-router";

import { lazyPage } from "../../app/lazyPage";

export const dataRoutes: RouteObject[] = [
  { path: "data", lazy: lazyPage(() => import("./index")) },
  { path: "data/:name", lazy: lazyPage(() => import("./dataset")) },
];
