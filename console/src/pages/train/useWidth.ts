import { useEffect, useState } from "react";

/** The width of an element in pixels, as it changes: `const [holder, width] = useWidth(640)`. */
export function useWidth(before: number): [(element: HTMLElement | null) => void, number] {
  const [element, setElement] = useState<HTMLElement | null>(null);
  const [width, setWidth] = useState(before);
  useEffect(() => {
    if (element === null) return undefined;
    const watcher = new ResizeObserver(() => setWidth(Math.round(element.clientWidth)));
    watcher.observe(element);
    return () => watcher.disconnect();
  }, [element]);
  return [setElement, width];
}
