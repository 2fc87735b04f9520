// Pictures from a drop, a paste or a choice, with those inside folders.

const ENDINGS = /\.(avif|bmp|gif|jfif|jp2|jpe?g?|pbm|pgm|png|pnm|ppm|tiff?|webp)$/i;

/** Whether a file may be a picture, by its type or its ending. */
export const isPicture = (file) => file.type.startsWith("image/") || ENDINGS.test(file.name);

/** The files of a drop, folders and all below them, hidden files left out: [{file, name}]. */
export async function dropped(transfer) {
  // The list is emptied as soon as the event is over, so the entries are taken at once.
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return chosen(transfer.files);
  const found = [];
  for (const entry of entries) await walk(entry, found);
  return found;
}

/** The files of a list: [{file, name}], named by their path where they come from a folder. */
export const chosen = (files) => [...files].map((file) => ({ file, name: file.webkitRelativePath || file.name }));

async function walk(entry, found) {
  if (entry.name.startsWith(".")) return;
  if (entry.isFile) {
    const file = await new Promise((done, failed) => entry.file(done, failed)).catch(() => null);
    if (file) found.push({ file, name: entry.fullPath.replace(/^\//, "") });
    return;
  }
  const reader = entry.createReader();
  // A folder is read a hundred entries at a time until there are no more.
  for (let part; (part = await new Promise((done) => reader.readEntries(done, () => done([])))).length; ) {
    for (const inner of part) await walk(inner, found);
  }
}
