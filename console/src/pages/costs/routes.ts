import type { RouteObject } from "react-router";

import { lazyPage } from "../../app/lazyPage";

export const costsRoutes: RouteObject[] = [
  { path: "costs", lazy: lazyPage(() => import("./index")) },
  { path: "costs/receipts/:jobId", lazy: lazyPage(() => import("./receipt")) },
];
